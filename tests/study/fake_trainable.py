"""A trainable without training: accuracy is a known function of the settings."""

import json
import os
import time
from pathlib import Path
from typing import Any

from ray import tune


class FakeTrainable(tune.Trainable):
    """Reports a curve that grows with method.rank; fails or dies where optim.lr asks for it.

    optim.momentum 0.1: a ValueError after two tasks. 0.2: the process dies once after two tasks.
    0.3: a ValueError of two lines before the first. optim.weight_decay: seconds a task takes.
    """

    def setup(self, config: dict[str, Any]) -> None:
        if config["optim.momentum"] == 0.3:
            raise ValueError("momentum must not be 0.3.\nAnything else is fine.")
        self.params = config
        self.task = 0

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        momentum = self.params["optim.momentum"]
        if momentum == 0.1 and self.task == 2:
            raise ValueError("momentum must not be 0.1.")
        if momentum == 0.2 and self.task == 2 and not self._died_before():
            os._exit(1)
        time.sleep(self.params["optim.weight_decay"])
        self.task += 1
        split = "val" if self.params["data.evaluation"] == "validation" else "test"
        accuracy = self.params.get("method.rank", 1) / 20 + self.task / 1000
        metrics = {f"{split}/accuracy": accuracy, "train/loss": 1 - accuracy}
        return {
            "task": self.task,
            "metrics": metrics,
            "accuracy_row": [accuracy] * self.task,
            "done": self.task == self.params["data.tasks"],
            **metrics,
        }

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        (Path(checkpoint_dir) / "state.json").write_text(json.dumps(self.task))

    def load_checkpoint(self, checkpoint: str) -> None:  # type: ignore[override, unused-ignore]
        self.task = json.loads((Path(checkpoint) / "state.json").read_text())

    def _died_before(self) -> bool:
        mark = Path(os.environ["FAKE_TRAINABLE_MARKS"]) / str(self.params["seed"])
        if mark.exists():
            return True
        mark.touch()
        return False
