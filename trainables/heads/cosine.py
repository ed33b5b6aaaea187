"""Scores that are scaled cosines, and a loss with a margin (CosFace, arXiv 1801.09414)."""

import torch
from torch import Tensor
from torch.nn import functional


def cosine_scores(features: Tensor, weight: Tensor, scale: float = 1.0) -> Tensor:
    """`scale` times the cosine (n, classes) of features (n, width) to weights (classes, width)."""
    return scale * (functional.normalize(features) @ functional.normalize(weight).T)


def cosface_loss(
    logits: Tensor, labels: Tensor, classes: range, scale: float, margin: float
) -> Tensor:
    """Cross-entropy over the current task's classes, the own one's cosine less `margin`.

    `logits` (n, classes seen) are `scale` times cosines.
    """
    own = logits[:, classes.start : classes.stop]
    places = labels - classes.start
    taken = torch.zeros_like(own).scatter_(1, places[:, None], scale * margin)
    return functional.cross_entropy(own - taken, places)
