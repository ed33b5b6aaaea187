"""ContinualTrainable: the trainer as Ray Tune sees it, one step a task."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray import get_runtime_context, tune

if TYPE_CHECKING:
    from trainables.trainer import SequentialTrainer


class ContinualTrainable(tune.Trainable):
    """Wraps SequentialTrainer; `config` is the flat form of a TrialConfig.

    A result holds `task` (tasks seen), `metrics` (also flattened at the top, under their own
    names, for schedulers) and `accuracy_row`. Checkpoints sit at task boundaries. torch is only
    imported where a trial is set up: the process that drives the study does without.
    """

    _trainer: "SequentialTrainer"

    def setup(self, config: dict[str, Any]) -> None:
        """Builds the trainer on the GPU that Ray assigned, else on the CPU."""
        self._build(config)

    def step(self) -> dict[str, Any]:
        """Trains one task."""
        result = self._trainer.train_task()
        return {
            **result.metrics,
            "task": result.task,
            "metrics": result.metrics,
            "accuracy_row": list(result.accuracy_row),
            "done": self._trainer.done,
        }

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Writes the trainer's state."""
        self._trainer.save(Path(checkpoint_dir))

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Takes the trainer's state over from a folder."""
        self._trainer.restore(Path(checkpoint))

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Starts another trial in the same process."""
        self._build(new_config)
        return True

    def _build(self, config: dict[str, Any]) -> None:
        import torch

        from trainables.config import TrialConfig
        from trainables.trainer import SequentialTrainer

        # Ray leaves all GPUs visible to a process that it assigned none.
        assigned = get_runtime_context().get_accelerator_ids().get("GPU")
        device = "cuda" if assigned and torch.cuda.is_available() else "cpu"
        self._trainer = SequentialTrainer(TrialConfig.from_params(config), device)
