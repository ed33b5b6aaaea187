"""Batches on the training device: pixel values in [0, 1], augmented there, all at once."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from trainables.config import DataConfig
from trainables.data.crops import random_crops, random_resized_crop
from trainables.data.images import StoredImages, sent
from trainables.data.stream import ImageSet

# Small enough to keep an icon readable: turns (degrees), shifts and scalings (shares).
MAX_TURN = 10.0
MAX_SHIFT = 0.08
MAX_SCALING = 0.15

# Passes without gradients keep no activations, so they take more images at once; twice as many no
# longer fit a core's cache with embedded networks, and take 15 % longer each.
FORWARD_BATCH = 128


class Frozen(Protocol):
    """Features of images that are not augmented by the network as it was pretrained."""

    def of(self, images: ImageSet) -> Tensor:
        """Features (n, width) of images in order."""

    def holds(self) -> bool:
        """Whether the network is still the pretrained one."""


@dataclass(frozen=True)
class TaskImages:
    """Training images as batches on the training device.

    `augmentation` and `crop_scale` are those of the config. An epoch takes `epoch_images` of
    the images, drawn anew each time (None: all of them). `frozen` has what is known of them.
    """

    data: ImageSet
    batch_size: int
    augmentation: str
    generator: torch.Generator
    crop_scale: float = DataConfig.crop_scale
    epoch_images: int | None = None
    frozen: Frozen | None = None

    def __len__(self) -> int:
        """Images in an epoch."""
        return len(self.data) if self.epoch_images is None else self.epoch_images

    def plain(self) -> Iterator[Tensor]:
        """All images once, in order, not augmented: floats (n, c, h, w) in [0, 1]."""
        for images in self.data.batches(FORWARD_BATCH):
            yield to_unit(images)

    def seen_as(self, kind: str) -> Iterator[Tensor]:
        """All images once, "plain" as they are or "augmented" as an epoch shows them."""
        return self.plain() if kind == "plain" else (images for images, _ in self.shuffled())

    def shuffled(self) -> Iterator[tuple[Tensor, Tensor]]:
        """One epoch of augmented images with their labels; no image comes twice."""
        for _, images, labels in self.drawn():
            yield images, labels

    def drawn(self, known: Tensor | None = None) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """As `shuffled`, each batch with the places of its images among all of them.

        What is `known` of each image (n, …) takes the place of its pixels.
        """
        order = torch.randperm(len(self.data), generator=self.generator)[: len(self)]
        for batch in order.split(self.batch_size):
            places = sent(batch, self.data.labels.device)
            images = self._augmented(self.data.rows[batch]) if known is None else known[places]
            yield places, images, self.data.labels[places]

    def _augmented(self, rows: Tensor) -> Tensor:
        source = self.data.source
        if self.augmentation == "random_resized_crop" and isinstance(source, StoredImages):
            return random_crops(source, rows, self.crop_scale, self.generator)
        images = to_unit(source.views(rows))
        if self.augmentation == "affine":
            return random_affine(images, self.generator)
        if self.augmentation == "random_resized_crop":
            return random_resized_crop(images, self.crop_scale, self.generator)
        return images


def to_unit(images: Tensor) -> Tensor:
    """uint8 to floats in [0, 1], as in both papers' protocols: no mean or deviation is taken."""
    return images.float().div_(255.0)


def random_affine(images: Tensor, generator: torch.Generator) -> Tensor:
    """Turns, scales and shifts every image (n, c, h, w) at random.

    Borders repeat the edge, which goes on with the ground of an image, whatever grey that has.
    """
    draws = torch.rand(images.shape[0], 4, generator=generator).mul_(2).sub_(1)
    angle = draws[:, 0] * math.radians(MAX_TURN)
    scale = 1.0 + draws[:, 1] * MAX_SCALING
    cos, sin = angle.cos() * scale, angle.sin() * scale
    # affine_grid counts from -1 to 1: a shift by a share of the width is twice that share.
    shift = draws[:, 2:] * 2 * MAX_SHIFT
    theta = torch.stack([cos, -sin, shift[:, 0], sin, cos, shift[:, 1]], dim=1).view(-1, 2, 3)
    theta = sent(theta.to(images.dtype), images.device)
    grid = functional.affine_grid(theta, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, padding_mode="border", align_corners=False)
