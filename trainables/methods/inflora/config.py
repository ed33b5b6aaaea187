"""InfLoRA (Liang & Li, CVPR 2024, arXiv 2404.00228): updates kept out of old tasks' subspace."""

from dataclasses import dataclass
from typing import Any, Literal

from trainables.config import HeadFields


@dataclass(frozen=True)
class InfLoRAConfig(HeadFields):
    """Fields of InfLoRA; where paper and released code differ, PRESETS below say how."""

    name: str = "inflora"
    rank: int = 10
    """Rank r of each branch."""
    epsilon: float = 0.95
    """Share of spectral energy that the memory must hold at the first task (ε_t, section 4.2)."""
    epsilon_end: float = 1.0
    """What `epsilon` rises to, linearly, by the last task."""
    energy: Literal["sigma4", "sigma2"] = "sigma4"
    """Whose squared singular values the share is of: the second moment's ("sigma4", released
    code) or the inputs' ("sigma2", paper)."""
    dual: bool = True
    """Whether the memory keeps its complement once it has more than half of the dimensions;
    without it (plain GPM) it only grows."""
    first_task: Literal["reach", "below"] = "reach"
    """Whether the first task's memory reaches its share or stops just below it, as released."""
    half_rule: Literal["complement", "mislabel"] = "complement"
    """What a dual memory of half of the dimensions becomes at the first task; see `DualGPM`."""
    down_init: Literal[
        "designed",
        "gaussian",
        "orthonormal",
        "null_space_random",
        "principal",
        "null_space_smallest",
        "gradient",
    ] = "designed"
    """How `down` is made, by one of `STRATEGIES`."""
    down_scale: float = 1.0
    """What the rows of `down` are multiplied by."""
    trained: Literal["up", "weight"] = "up"
    """Whether `up` learns, or the whole weight with its gradient projected on the span of `down`:
    what the paper shows to be the same under plain gradient descent."""
    moment_images: Literal["plain", "augmented"] = "plain"
    """Images of the two passes that take second moments: plain, or augmented as in training."""
    on_exhaustion: Literal["clip", "freeze", "relax", "released"] = "clip"
    """What happens in a layer without free dimensions; see `LayerMemories`."""
    head_norm: bool = False
    """Puts a layer normalisation without weights between the features and the heads."""

    def check(self, width: int) -> None:
        """Refuses a rank that layers of `width` inputs cannot hold, and values out of range."""
        if not 1 <= self.rank <= width:
            raise ValueError(f"method.rank must be in [1, {width}], but got {self.rank}.")
        if not 0 < self.epsilon <= 1:
            raise ValueError(f"method.epsilon must be in (0, 1], but got {self.epsilon}.")
        if not self.epsilon <= self.epsilon_end <= 1:
            raise ValueError(
                f"method.epsilon_end must be in [method.epsilon, 1] = [{self.epsilon}, 1], "
                f"but got {self.epsilon_end}."
            )
        if not 0 < self.down_scale < float("inf"):
            raise ValueError(
                f"method.down_scale must be a finite number above 0, but got {self.down_scale}."
            )
        self.check_head()


# "paper": eq. 8 with orthonormal rows; the threshold is a share of the inputs' own energy, and the
# first task's memory reaches it. The paper is silent about a memory that runs full, about more
# than half of the dimensions at once, and about augmentation in the two passes: there stands what
# its argument needs, and a small start of the heads. "corrected": "released" without what is a bug
# and not a choice.
# fmt: off
_RELEASED: dict[str, Any] = {
    "method.energy": "sigma4", "method.first_task": "below", "method.half_rule": "mislabel",
    "method.down_scale": 0.5773502691896258, "method.moment_images": "augmented",
    "method.on_exhaustion": "released", "method.head_init": "linear",
}
_MENDED = {
    "method.first_task": "reach", "method.half_rule": "complement", "method.on_exhaustion": "clip",
}
PRESETS: dict[str, dict[str, Any]] = {
    "paper": {
        "method.energy": "sigma2", "method.down_scale": 1.0, "method.moment_images": "plain",
        "method.head_init": "small_normal", **_MENDED,
    },
    "released": _RELEASED,
    "corrected": _RELEASED | _MENDED,
}

# As in the released configuration files; a rate of None follows optim.lr.
_COMMON: dict[str, Any] = {
    "method.rank": 10, "seeds": (0, 1, 2, 3, 4), "optim.optimizer": "adam", "optim.lr": 5e-4,
    "optim.head_lr": None, "optim.weight_decay": 0.0, "optim.batch_size": 128,
    "optim.schedule": "released_cosine", "data.class_order": "natural",
    "data.augmentation": "random_resized_crop", "data.crop_scale": 0.08,
}
RECIPES: dict[tuple[str, int | None], dict[str, Any]] = {
    ("cifar100", None): _COMMON | {"method.epsilon": 0.95, "optim.epochs": 20},
    ("imagenet_r", None): _COMMON | {
        "method.epsilon": 0.98, "optim.epochs": 50, "data.split": "random",
    },
    # Plain GPM here. The step's factor is that of the released file.
    ("domainnet", None): _COMMON | {
        "method.rank": 30, "method.epsilon": 0.95, "method.dual": False, "optim.optimizer": "sgd",
        "optim.lr": 5e-3, "optim.head_lr": 0.01, "optim.momentum": 0.9, "optim.epochs": 5,
        "optim.schedule": "step", "optim.milestones": (4,), "optim.step_factor": 0.1,
    },
}
# fmt: on

ADAPTS = ("k", "v")
