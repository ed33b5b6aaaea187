"""Frozen backbone and nearest class mean: what the pretrained features give without training."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from trainables.backbones.adapted import AdaptedBackbone
from trainables.data.batches import TaskImages
from trainables.data.stream import Task
from trainables.heads import current_task_loss
from trainables.method import MethodContext, ParamGroup
from trainables.methods.nearest_mean.config import NearestMeanConfig


class NearestMean:
    """Scores an image by how near its features are to each class's mean."""

    trains_backbone = False
    loss = staticmethod(current_task_loss)  # nothing minimises it

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


create = NearestMean
