"""A trainable without training: accuracy is a known function of the settings."""

import errno
import json
import os
import time
from pathlib import Path
from typing import Any

from ray import tune

from study.engine.node_check import NodeCheckError


class FakeTrainable(tune.Trainable):
    """Reports a curve that grows with method.rank; fails or dies where optim.momentum asks for it.

    0.1: a ValueError after two tasks. 0.2: the process dies once after two tasks. 0.3: the disk
    is full at the second checkpoint. 0.4: diverged after one task. 0.5: out of memory at once.
    0.6: a ValueError of two lines while it is set up. 0.7: its node fails its check once.
    optim.weight_decay: seconds a task takes. A trial that goes on from `resume_from` marks that.
    """

    def setup(self, config: dict[str, Any]) -> None:
        if config["optim.momentum"] == 0.6:
            raise ValueError("momentum must not be 0.6.\nAnything else is fine.")
        self.params = dict(config)
        if config["optim.momentum"] == 0.7 and not self._died_before():
            raise NodeCheckError("node one: disk: full")
        self.task = 0
        self.evaluate_after = self.params.pop("evaluate_after", None)
        resume_from = self.params.pop("resume_from", None)
        if resume_from is not None:
            self.load_checkpoint(resume_from)
            (Path(os.environ["FAKE_TRAINABLE_MARKS"]) / f"from-{self.task}").touch()

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        momentum = self.params["optim.momentum"]
        if momentum == 0.1 and self.task == 2:
            raise ValueError("momentum must not be 0.1.")
        if momentum == 0.2 and self.task == 2 and not self._died_before():
            os._exit(1)
        failed = {"done": True, "task": self.task}
        if (momentum, self.task) == (0.4, 1):
            return {**failed, "failed": "FloatingPointError: not finite", "reason": "diverged"}
        if (momentum, self.task) == (0.5, 0):
            return {**failed, "failed": "OutOfMemoryError: too large", "reason": "out_of_memory"}
        time.sleep(self.params["optim.weight_decay"])
        self.task += 1
        split = "val" if self.params["data.evaluation"] == "validation" else "test"
        accuracy = self.params.get("method.rank", 1) / 20 + self.task / 1000
        metrics = {"train/loss": 1 - accuracy}
        evaluated = self.evaluate_after is None or self.task in self.evaluate_after
        if evaluated:
            metrics[f"{split}/accuracy"] = accuracy
        return {
            "task": self.task,
            "metrics": metrics,
            "accuracy_row": [accuracy] * self.task if evaluated else [],
            "done": self.task == self.params["data.tasks"],
            **metrics,
        }

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        if self.params["optim.momentum"] == 0.3 and self.task == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        (Path(checkpoint_dir) / "state.json").write_text(json.dumps(self.task))

    def load_checkpoint(self, checkpoint: str) -> None:  # type: ignore[override, unused-ignore]
        self.task = json.loads((Path(checkpoint) / "state.json").read_text())

    def _died_before(self) -> bool:
        name = f"{self.params['optim.momentum']}-{self.params['seed']}"
        mark = Path(os.environ["FAKE_TRAINABLE_MARKS"]) / name
        if mark.exists():
            return True
        mark.touch()
        return False
