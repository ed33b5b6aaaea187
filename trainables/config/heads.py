"""Fields of the classifier, for the configs of methods that let a study choose it; no torch."""

from dataclasses import dataclass, fields
from typing import Literal

FITTED = ("class_means", "ridge")


@dataclass(frozen=True)
class HeadFields:
    """Which head tells the classes, and classifier alignment; the name of a method comes first."""

    name: str = ""
    head: Literal["linear", "cosine", "cosface", "class_means", "ridge"] = "linear"
    """What tells the classes: a trained linear head a task; one of scaled cosines, with CosFace's
    margin in training or without; or, beside a linear head that is trained and thrown away, class
    means or a ridge regression, fitted to plain images at the end of each task."""
    head_init: Literal["small_normal", "linear", "uniform_fan"] = "small_normal"
    """How a new task's head starts: small, as torch's linear layers, or uniform with deviation
    1/√width; see `start_head`."""
    head_scale: float = 20.0
    """What cosines are multiplied by (s)."""
    head_margin: float = 0.1
    """What CosFace takes off the cosine of an image's own class in training (m)."""
    head_metric: Literal["cosine", "euclidean"] = "cosine"
    """By which a feature is near a class mean."""
    head_projection: int | None = None
    """Random features relu(fW) that the ridge regression is of; null: of the features f."""
    head_ridge_powers: tuple[int, ...] = tuple(range(-8, 9))
    """Powers of ten that are tried as λ of the ridge regression."""
    align: bool = False
    """Turns classifier alignment on."""
    align_epochs: int = 5
    """Epochs of the alignment after each task."""
    align_samples: int = 256
    """Features a class that the alignment draws."""
    align_lr: float = 0.01
    """Learning rate of the alignment."""
    align_logit_norm: float | None = 0.1
    """What logits are brought to in the alignment, times their mean norm over tasks; null: as they
    are."""
    align_ridge: float = 1e-4
    """Variance that the alignment adds to each class in all directions."""

    @property
    def head_fields(self) -> "HeadFields":
        """These fields alone: a head sees nothing else of a method's config."""
        return HeadFields(**{own.name: getattr(self, own.name) for own in fields(HeadFields)})

    def check_head(self) -> None:
        """Refuses values out of range with a ValueError."""
        for key in ("head_scale", "align_lr", "align_logit_norm"):
            value = getattr(self, key)
            if value is not None and not 0 < value < float("inf"):
                raise ValueError(f"method.{key} must be a finite number above 0, but got {value}.")
        if not 0 <= self.head_margin <= 1:
            raise ValueError(f"method.head_margin must be in [0, 1], but got {self.head_margin}.")
        if not 0 <= self.align_ridge < float("inf"):
            raise ValueError(
                f"method.align_ridge must be a finite number of at least 0, "
                f"but got {self.align_ridge}."
            )
        for key in ("align_epochs", "align_samples", "head_projection"):
            value = getattr(self, key)
            if value is not None and value < 1:
                raise ValueError(f"method.{key} must be at least 1, but got {value}.")
        powers = self.head_ridge_powers
        if not powers or not all(-12 <= power <= 12 for power in powers):
            raise ValueError(
                f"method.head_ridge_powers must be powers in [-12, 12], at least one, "
                f"but got {list(powers)}."
            )
        if self.align and self.head in FITTED:
            raise ValueError(
                f"method.align must be false with method.head {self.head}, which is fitted and "
                f"not trained, but it is true."
            )
