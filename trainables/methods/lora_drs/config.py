"""LoRA-DRS (Liu & Chang, CVPR 2025, arXiv 2503.18985): updates in a drift-resistant space."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from trainables.backbones.info import LayerInfo
from trainables.config import HeadFields, OptimConfig


@dataclass(frozen=True)
class LoRADRSConfig(HeadFields):
    """Fields of LoRA-DRS; where the released code has a quirk, PRESETS below say so."""

    name: str = "lora_drs"
    head: Literal["linear", "cosine", "cosface", "class_means", "ridge"] = "class_means"
    """What tells the classes; the method's own are class means, beside a linear head that is
    trained and thrown away."""
    rank: int = 10
    """Rank r of each branch, of which both factors are trained."""
    share: float = 0.99
    """Share of the second moment's trace that the drift-resistant space must hold."""
    scaled: bool = True
    """Whether updates are divided by √k, with k the dimensions of that space, as released: the
    projector is divided by its Frobenius norm."""
    up_side: Literal["free", "inputs"] = "free"
    """Whether updates of `up` stay as they are, or are projected on its output side with the space
    of the inputs, as released: a shape alone decides there."""
    up_init: Literal["sparse", "zero"] = "sparse"
    """How `up` starts: with one number other than 0 in each column, or none."""
    moment_images: Literal["plain", "augmented"] = "plain"
    """Images of the pass that takes second moments: plain, or augmented as in training."""
    triplet: float = 0.05
    """What the triplet loss of unit features counts beside the cross-entropy (λ)."""
    margin: float = 1.0
    """By how much the farthest image of the same class must be nearer than the nearest of another,
    or than the mean of an old class."""

    def check(self, width: int) -> None:
        """Refuses a rank that layers of `width` inputs cannot hold, and values out of range."""
        self.check_head()
        if not 1 <= self.rank <= width:
            raise ValueError(f"method.rank must be in [1, {width}], but got {self.rank}.")
        if not 0 < self.share <= 1:
            raise ValueError(f"method.share must be in (0, 1], but got {self.share}.")
        for key in ("triplet", "margin"):
            value = getattr(self, key)
            if not 0 <= value < float("inf"):
                raise ValueError(
                    f"method.{key} must be a finite number of at least 0, but got {value}."
                )

    def check_layers(self, layers: Sequence[LayerInfo]) -> None:
        """Refuses to project outputs with the space of the inputs where these may be others."""
        others = [layer.path for layer in layers if layer.kind != "qkv"]
        if self.up_side == "inputs" and others:
            raise ValueError(
                f"method.up_side must be free unless slices of fused qkv alone are adapted, which "
                f"have as many outputs as inputs, but it is inputs with {others[0]}."
            )

    def check_optim(self, optim: OptimConfig) -> None:
        """Refuses micro-batches with a triplet loss, which is of a whole batch."""
        if optim.micro_batch is not None and self.triplet > 0:
            raise ValueError(
                f"optim.micro_batch must be null with method.triplet {self.triplet}, whose loss is "
                f"no mean over images, but got {optim.micro_batch}."
            )


# The paper was not read here: "paper" has what "corrected" has, which differs from "released" in
# what only the shape of a tensor decides there.
# fmt: off
_RELEASED: dict[str, Any] = {
    "method.scaled": True, "method.up_side": "inputs", "method.up_init": "sparse",
    "method.moment_images": "augmented", "method.head_init": "linear",
}
_MENDED = {"method.up_side": "free"}
PRESETS: dict[str, dict[str, Any]] = {
    "paper": _RELEASED | _MENDED,
    "released": _RELEASED,
    "corrected": _RELEASED | _MENDED,
}

# Crops are those of the released InfLoRA, on whose code it is built; its seeds are not known.
_COMMON: dict[str, Any] = {
    "method.rank": 10, "method.share": 0.99, "data.class_order": "natural",
    "data.augmentation": "random_resized_crop", "data.crop_scale": 0.08,
    "optim.optimizer": "adam", "optim.lr": 5e-4, "optim.weight_decay": 0.0,
    "optim.batch_size": 128, "optim.schedule": "released_cosine",
}
RECIPES: dict[tuple[str, int | None], dict[str, Any]] = {
    ("cifar100", None): _COMMON | {
        "method.margin": 1.0, "method.triplet": 0.05, "optim.head_lr": 2e-3, "optim.epochs": 20,
    },
    ("imagenet_r", None): _COMMON | {
        "method.margin": 2.0, "method.triplet": 0.2, "optim.head_lr": 5e-4, "optim.epochs": 50,
    },
}
# fmt: on

ADAPTS = ("k", "v")
