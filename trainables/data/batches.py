"""Batches on the training device: pixel values in [0, 1], augmented there, all at once."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from trainables.config_groups import DataConfig
from trainables.data.stream import ImageSet

# Small enough to keep an icon readable: turns (degrees), shifts and scalings (shares).
MAX_TURN = 10.0
MAX_SHIFT = 0.08
MAX_SCALING = 0.15

# Width over height of a random crop, and how often a box is drawn before the whole is taken.
ASPECT = (3 / 4, 4 / 3)
ATTEMPTS = 10

# Passes without gradients keep no activations, so they take more images at once.
FORWARD_BATCH = 256


@dataclass(frozen=True)
class TaskImages:
    """Training images as batches, held on the training device as uint8.

    `augmentation` and `crop_scale` are those of the config. An epoch takes `epoch_images` of
    the images, drawn anew each time (None: all of them).
    """

    data: ImageSet
    batch_size: int
    augmentation: str
    generator: torch.Generator
    crop_scale: float = DataConfig.crop_scale
    epoch_images: int | None = None

    def __len__(self) -> int:
        """Images in an epoch."""
        return len(self.data) if self.epoch_images is None else self.epoch_images

    def plain(self) -> Iterator[Tensor]:
        """All images once, in order, not augmented: floats (n, c, h, w) in [0, 1]."""
        for images in self.data.images.split(FORWARD_BATCH):
            yield to_unit(images)

    def shuffled(self) -> Iterator[tuple[Tensor, Tensor]]:
        """One epoch of augmented images with their labels; no image comes twice."""
        order = torch.randperm(len(self.data), generator=self.generator)[: len(self)]
        for batch in order.to(self.data.labels.device).split(self.batch_size):
            images = to_unit(self.data.images[batch])
            if self.augmentation == "affine":
                images = random_affine(images, self.generator)
            elif self.augmentation == "random_resized_crop":
                images = random_resized_crop(images, self.crop_scale, self.generator)
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
    grid = functional.affine_grid(theta.to(images), list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, padding_mode="border", align_corners=False)


def random_resized_crop(
    images: Tensor, smallest_share: float, generator: torch.Generator
) -> Tensor:
    """Cuts a random box out of every image (n, c, h, w), resizes it to (h, w), flips half.

    The boxes are those of `random_boxes`; bilinear, and no pixel outside of a box is read.
    """
    height, width = images.shape[-2:]
    boxes = random_boxes(images.shape[0], height, width, smallest_share, generator)
    flipped = torch.rand(images.shape[0], generator=generator) < 0.5
    left, top, wide, high = boxes.unbind(1)
    # affine_grid counts from -1 to 1 over the whole image: one pixel is 2 / width.
    centre = torch.stack([(2 * left + wide) / width - 1, (2 * top + high) / height - 1], dim=1)
    half = torch.stack([wide / width, high / height], dim=1)
    theta = torch.zeros(images.shape[0], 2, 3, dtype=boxes.dtype)
    theta[:, 0, 0] = torch.where(flipped, -half[:, 0], half[:, 0])
    theta[:, 1, 1] = half[:, 1]
    theta[:, :, 2] = centre
    grid = functional.affine_grid(theta.to(images), list(images.shape), align_corners=False)
    # Half a pixel inside its border a box ends: beyond, bilinear would mix the outside in.
    reach = half - torch.tensor([1 / width, 1 / height], dtype=boxes.dtype)
    low, high_end = (centre - reach).to(images), (centre + reach).to(images)
    grid = grid.clamp(low[:, None, None], high_end[:, None, None])
    return functional.grid_sample(images, grid, padding_mode="border", align_corners=False)


def random_boxes(
    count: int, height: int, width: int, smallest_share: float, generator: torch.Generator
) -> Tensor:
    """Boxes (count, 4) in whole pixels: left, top, width, height, inside (height, width).

    A share of the area uniform in [smallest_share, 1] and width over height log-uniform in
    [3/4, 4/3], drawn again up to 10 times until it fits; if it never does, the largest box in
    the middle with a ratio in that range.
    """
    draws = torch.rand(count, ATTEMPTS, 2, generator=generator, dtype=torch.float64)
    area = (smallest_share + (1 - smallest_share) * draws[..., 0]) * (height * width)
    low, high = math.log(ASPECT[0]), math.log(ASPECT[1])
    ratio = (low + (high - low) * draws[..., 1]).exp()
    wide, tall = (area * ratio).sqrt().round(), (area / ratio).sqrt().round()
    fits = (wide >= 1) & (wide <= width) & (tall >= 1) & (tall <= height)
    first = fits.int().argmax(1, keepdim=True)
    never = ~fits.any(1)
    fallback = min(width, round(height * ASPECT[1])), min(height, round(width / ASPECT[0]))
    wide = wide.gather(1, first)[:, 0].masked_fill(never, fallback[0])
    tall = tall.gather(1, first)[:, 0].masked_fill(never, fallback[1])
    place = torch.rand(count, 2, generator=generator, dtype=torch.float64)
    place[never] = 0.5
    left = (place[:, 0] * (width - wide + 1)).floor()
    top = (place[:, 1] * (height - tall + 1)).floor()
    return torch.stack([left, top, wide, tall], dim=1)
