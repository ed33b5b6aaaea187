"""Batches on the training device: pixel values in [0, 1], augmented there, all at once."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from trainables.data.stream import ImageSet

# Small enough to keep an icon readable: turns (degrees), shifts and scalings (shares).
MAX_TURN = 10.0
MAX_SHIFT = 0.08
MAX_SCALING = 0.15


# Passes without gradients keep no activations, so they take more images at once.
FORWARD_BATCH = 256


@dataclass(frozen=True)
class TaskImages:
    """The training images of a task as batches, held on the training device as uint8."""

    data: ImageSet
    batch_size: int
    augmentation: str
    generator: torch.Generator

    def plain(self) -> Iterator[Tensor]:
        """All images once, in order, not augmented: floats (n, c, h, w) in [0, 1]."""
        for images in self.data.images.split(FORWARD_BATCH):
            yield to_unit(images)

    def shuffled(self) -> Iterator[tuple[Tensor, Tensor]]:
        """One epoch of augmented images with their labels."""
        order = torch.randperm(len(self.data), generator=self.generator)
        for batch in order.to(self.data.labels.device).split(self.batch_size):
            images = to_unit(self.data.images[batch])
            if self.augmentation == "affine":
                images = random_affine(images, self.generator)
            yield images, self.data.labels[batch]


def to_unit(images: Tensor) -> Tensor:
    """uint8 to floats in [0, 1], as in both papers' protocols: no mean or deviation is taken."""
    return images.float().div_(255.0)


def random_affine(images: Tensor, generator: torch.Generator) -> Tensor:
    """Turns, scales and shifts every image (n, c, h, w) at random; borders repeat the edge."""
    draws = torch.rand(images.shape[0], 4, generator=generator).mul_(2).sub_(1)
    angle = draws[:, 0] * math.radians(MAX_TURN)
    scale = 1.0 + draws[:, 1] * MAX_SCALING
    cos, sin = angle.cos() * scale, angle.sin() * scale
    # affine_grid counts from -1 to 1: a shift by a share of the width is twice that share.
    shift = draws[:, 2:] * 2 * MAX_SHIFT
    theta = torch.stack([cos, -sin, shift[:, 0], sin, cos, shift[:, 1]], dim=1).view(-1, 2, 3)
    grid = functional.affine_grid(theta, list(images.shape), align_corners=False)
    return functional.grid_sample(
        images, grid.to(images.device), padding_mode="border", align_corners=False
    )
