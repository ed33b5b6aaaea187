"""RanPAC (McDonnell et al., NeurIPS 2023, arXiv 2307.02251): ridge regression, random features."""

from dataclasses import dataclass
from typing import Any, Literal

from trainables.config import HeadFields


@dataclass(frozen=True)
class RanPACConfig:
    """Fields of RanPAC."""

    name: str = "ranpac"
    tuning: Literal["first_task", "none"] = "first_task"
    """Whether a branch is trained on the first task, before the network is frozen for good."""
    rank: int = 10
    """Rank r of that branch."""
    head_init: Literal["small_normal", "linear", "uniform_fan"] = "small_normal"
    """How the head starts that the first task is trained with; see `start_head`."""
    head_projection: int | None = 1000
    """Random features relu(fW) that the ridge regression is of; null: of the features f."""
    head_ridge_powers: tuple[int, ...] = HeadFields.head_ridge_powers
    """Powers of ten that are tried as λ of the ridge regression."""

    def check(self, width: int) -> None:
        """Refuses a rank that layers of `width` inputs cannot hold, and a head that cannot be."""
        if not 1 <= self.rank <= width:
            raise ValueError(f"method.rank must be in [1, {width}], but got {self.rank}.")
        self.head.check_head()

    @property
    def head(self) -> HeadFields:
        """The head that tells the classes."""
        return HeadFields(
            head="ridge",
            head_init=self.head_init,
            head_projection=self.head_projection,
            head_ridge_powers=self.head_ridge_powers,
        )


# Only the code was read: adapters, visual prompts or scaled features are tuned there, a branch
# here. No difference to the paper is known, and no mistake.
# fmt: off
_CODE: dict[str, Any] = {
    "method.tuning": "first_task", "method.head_projection": 10_000,
    "method.head_ridge_powers": tuple(range(-8, 9)),
}
PRESETS: dict[str, dict[str, Any]] = {"paper": _CODE, "released": _CODE, "corrected": _CODE}

# Of the first task; schedule, decay and the order of classes were not seen.
_COMMON: dict[str, Any] = {
    "optim.optimizer": "sgd", "optim.lr": 0.01, "optim.head_lr": None, "optim.epochs": 20,
    "optim.batch_size": 48,
}
RECIPES: dict[tuple[str, int | None], dict[str, Any]] = {
    (data, None): _COMMON for data in ("cifar100", "imagenet_r", "imagenet_a")
}
# fmt: on

ADAPTS = ("q", "v")
