"""Frozen backbone and nearest class mean: what the pretrained features give without training."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class NearestMeanConfig:
    """Fields of the nearest class mean."""

    name: str = "nearest_mean"
    metric: Literal["cosine", "euclidean"] = "cosine"
    """By which an image is near a mean; "cosine" is the usual one on pretrained features
    (SimpleCIL, arXiv 2303.07338)."""

    def check(self, width: int) -> None:
        """Accepts every width."""


REFERENCE = "nothing trained: class means of the pretrained features"
ADAPTS: tuple[str, ...] = ()
