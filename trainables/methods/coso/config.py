"""CoSO (Cheng et al., 2025, arXiv 2505.11816): gradients kept out of old tasks' gradients."""

from dataclasses import dataclass
from typing import Any, Literal

from trainables.config import HeadFields


@dataclass(frozen=True)
class CoSOConfig(HeadFields):
    """Fields of CoSO; where the released code has a quirk, PRESETS below say so."""

    name: str = "coso"
    rank: int = 10
    """Directions r1 in which a weight moves at a time."""
    sketch: int = 24
    """Directions r2 of the gradients of a task that are kept until it ends."""
    every: int = 1
    """Steps K after which the directions follow the gradient, and the sketch takes it in."""
    epsilon: float = 0.98
    """Share of the sketch's energy whose directions are added to the memory after each task."""
    taken: Literal["reach", "below"] = "reach"
    """Whether those directions reach the share or stay below it, as released: none is taken where
    the first alone reaches it."""
    decay: float = 1.0
    """What the sketch so far is multiplied by when it takes in a gradient."""
    moments: Literal["kept", "rotated"] = "kept"
    """What becomes of Adam's moments when the directions change: kept as they are, or rotated."""
    orthonormal: bool = True
    """Whether directions are made orthonormal to the memory before they join it."""
    on_exhaustion: Literal["clip", "freeze", "relax", "released"] = "clip"
    """What happens to a weight with fewer than `rank` free directions; see `GradientSpace`."""
    temperature: float = 3.0
    """What logits of linear heads are divided by in training (cosines have `head_scale`)."""

    def check(self, width: int) -> None:
        """Refuses a rank that layers of `width` inputs cannot have, and values out of range."""
        self.check_head()
        if not 1 <= self.rank <= width:
            raise ValueError(f"method.rank must be in [1, {width}], but got {self.rank}.")
        for key in ("sketch", "every"):
            if getattr(self, key) < 1:
                raise ValueError(f"method.{key} must be at least 1, but got {getattr(self, key)}.")
        for key in ("epsilon", "decay"):
            value = getattr(self, key)
            if not 0 < value <= 1:
                raise ValueError(f"method.{key} must be in (0, 1], but got {value}.")
        if not 0 < self.temperature < float("inf"):
            raise ValueError(
                f"method.temperature must be a finite number above 0, but got {self.temperature}."
            )


# The paper was not read here: "paper" has what "corrected" has, which differs from "released" in
# what breaks its own argument. A task whose gradients lie along one direction adds nothing to the
# memory; columns of the memory lean into each other; and once it is full, rounding becomes whole
# steps. A first version of the released code, without what shrinks the sketch and without decay,
# is in no preset, nor is what torch below 2 did to it: old heads kept moving by their momentum.
# fmt: off
_RELEASED: dict[str, Any] = {
    "method.taken": "below", "method.orthonormal": False, "method.on_exhaustion": "released",
    "method.moments": "kept", "method.decay": 1.0, "method.temperature": 3.0,
    "method.head_init": "linear",
}
_MENDED = {
    "method.taken": "reach", "method.orthonormal": True, "method.on_exhaustion": "clip",
}
PRESETS: dict[str, dict[str, Any]] = {
    "paper": _RELEASED | _MENDED,
    "released": _RELEASED,
    "corrected": _RELEASED | _MENDED,
}

# A rate of None follows optim.lr; that of the heads was seen for CIFAR-100 alone. Crops and the
# view of test images are those of the toolbox that the code was built in.
_COMMON: dict[str, Any] = {
    "seeds": (0, 10, 20), "data.class_order": "natural", "data.test_view": "bicubic",
    "data.augmentation": "random_resized_crop", "data.crop_scale": 0.05,
    "optim.optimizer": "adam", "optim.weight_decay": 0.0, "optim.head_lr": None,
    "optim.batch_size": 128, "optim.schedule": "released_cosine", "method.epsilon": 0.98,
}
RECIPES: dict[tuple[str, int | None], dict[str, Any]] = {
    ("cifar100", None): _COMMON | {
        "method.rank": 15, "method.sketch": 100, "method.every": 1,
        "optim.lr": 3e-4, "optim.head_lr": 5e-4, "optim.epochs": 20,
    },
    ("imagenet_r", None): _COMMON | {
        "method.rank": 50, "method.sketch": 120, "method.every": 1,
        "optim.lr": 4e-4, "optim.epochs": 40,
    },
    ("domainnet", None): _COMMON | {
        "method.rank": 70, "method.sketch": 160, "method.every": 20,
        "optim.lr": 1e-4, "optim.epochs": 5,
    },
}
# fmt: on

ADAPTS = ("qkv",)
LAYERS = ("*.attn.proj",)
