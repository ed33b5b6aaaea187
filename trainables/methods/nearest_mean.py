"""Frozen backbone and nearest class mean: what the pretrained features give without training."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from trainables.backbones.adapted import AdaptedBackbone
from trainables.data.batches import TaskImages
from trainables.data.stream import Task
from trainables.method import MethodContext, ParamGroup


@dataclass(frozen=True)
class NearestMeanConfig:
    """Field of the nearest class mean: `metric` by which an image is near one.

    "cosine" is the usual one on pretrained features (SimpleCIL, arXiv 2303.07338).
    """

    name: str = "nearest_mean"
    metric: Literal["cosine", "euclidean"] = "cosine"

    def check(self, width: int) -> None:
        """Accepts every width."""


REFERENCE = "nothing trained: class means of the pretrained features"
ADAPTS: tuple[str, ...] = ()


def create(config: NearestMeanConfig, context: MethodContext) -> "NearestMean":
    """Builds the method for a model."""
    return NearestMean(config, context)


class NearestMean:
    """Scores an image by how near its features are to each class's mean."""

    trains_backbone = False

    def __init__(self, config: NearestMeanConfig, context: MethodContext) -> None:
        self._metric = config.metric
        self._means = torch.zeros(0, context.model.width, device=context.device)

    def begin_task(
        self, model: AdaptedBackbone, task: Task, train: TaskImages
    ) -> tuple[list[ParamGroup], dict[str, float]]:
        """Trains nothing."""
        return [], {}

    def logits(self, features: Tensor) -> Tensor:
        """Cosine similarity to the mean of every class seen, or minus the squared distance."""
        if self._metric == "cosine":
            return functional.normalize(features) @ functional.normalize(self._means).T
        # By differences: from inner products, near classes would be lost to rounding.
        exact = "donot_use_mm_for_euclid_dist"
        return -torch.cdist(features, self._means, compute_mode=exact).square()

    def loss(self, logits: Tensor, labels: Tensor, classes: range) -> Tensor:
        """Cross-entropy of the scores over the current task's classes; nothing minimises it."""
        own = logits[:, classes.start : classes.stop]
        return functional.cross_entropy(own, labels - classes.start)

    @torch.no_grad()
    def end_task(self, model: AdaptedBackbone, task: Task, train: TaskImages) -> dict[str, float]:
        """Takes the means of the new classes over plain training images."""
        features = torch.cat([model(images) for images in train.plain()])
        means = [features[train.data.labels == label].mean(0) for label in task.classes]
        self._means = torch.cat([self._means, torch.stack(means)])
        return {"memory/subspace_bytes": 0.0, "memory/branch_bytes": 0.0}

    def state_dict(self) -> dict[str, Any]:
        """Class means in head order."""
        return {"means": self._means}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over what `state_dict` gave."""
        self._means = state["means"].to(self._means)
