"""The augmented triplet loss: old class means stand among the images of other classes."""

import torch
from torch import Tensor
from torch.nn import functional


def triplet_loss(features: Tensor, labels: Tensor, means: Tensor, margin: float) -> Tensor:
    """Mean over images of max(0, farthest of its class − nearest of another + `margin`).

    Distances are those of unit vectors: of `features` (n, width), and to `means` (classes, width)
    of old classes, of which there may be none. An image alone in its class is at 0 from it; where
    there is no other class, its loss is 0.
    """
    unit = functional.normalize(features)
    # By differences: inner products would round near images together, and their gradients away.
    exact = "donot_use_mm_for_euclid_dist"
    distances = torch.cdist(unit, unit, compute_mode=exact)
    same = labels[:, None] == labels
    farthest = distances.masked_fill(~same, 0.0).amax(1)
    nearest = distances.masked_fill(same, float("inf")).amin(1)
    if len(means):
        old = torch.cdist(unit, functional.normalize(means).to(unit), compute_mode=exact)
        nearest = torch.minimum(nearest, old.amin(1))
    return functional.relu(farthest - nearest + margin).mean()
