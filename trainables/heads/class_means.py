"""Class means: an image is of the class whose mean its feature is nearest to."""

from typing import Any

import torch
from torch import Tensor

from trainables.heads.cosine import cosine_scores


class ClassMeans:
    """The mean feature of each class, taken at the end of its task and never again.

    `metric` is "cosine" (SimpleCIL, arXiv 2303.07338) or "euclidean"; `means` (classes, width)
    are in head order.
    """

    def __init__(self, width: int, metric: str, device: torch.device) -> None:
        self._metric = metric
        self.means = torch.zeros(0, width, device=device)

    @property
    def bytes(self) -> int:
        """Size of all means in bytes."""
        return self.means.nbytes

    def logits(self, features: Tensor) -> Tensor:
        """Cosine similarity to the mean of every class seen, or minus the squared distance."""
        if self._metric == "cosine":
            return cosine_scores(features, self.means)
        # By differences: from inner products, near classes would be lost to rounding.
        exact = "donot_use_mm_for_euclid_dist"
        return -torch.cdist(features, self.means, compute_mode=exact).square()

    def fit(self, features: Tensor, labels: Tensor, classes: range) -> dict[str, float]:
        """Takes the means of the features (n, width) of a task, whose labels cover `classes`."""
        means = [features[labels == label].mean(0) for label in classes]
        self.means = torch.cat([self.means, torch.stack(means)])
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Class means in head order."""
        return {"means": self.means}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over what `state_dict` gave."""
        self.means = state["means"].to(self.means)
