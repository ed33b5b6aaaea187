"""Batches on the training device: pixel values in [0, 1], augmented there, all at once."""

import math
import mmap
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from trainables.config import DataConfig
from trainables.data.images import StoredImages, resized, sent
from trainables.data.stream import ImageSet

# Small enough to keep an icon readable: turns (degrees), shifts and scalings (shares).
MAX_TURN = 10.0
MAX_SHIFT = 0.08
MAX_SCALING = 0.15

# Width over height of a random crop, and how often a box is drawn before the whole is taken.
ASPECT = (3 / 4, 4 / 3)
ATTEMPTS = 10

# Bytes of a batch from which it is worth asking for pages of 2 MiB.
LARGE_PAGES = 1 << 23

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
            pieces = source.pieces(rows)
            return random_crops(pieces, source.size, self.crop_scale, self.generator, source.each)
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
    theta = sent(theta.to(images.dtype), images.device)
    grid = functional.affine_grid(theta, list(images.shape), align_corners=False)
    # Half a pixel inside its border a box ends: beyond, bilinear would mix the outside in.
    reach = half - torch.tensor([1 / width, 1 / height], dtype=boxes.dtype)
    ends = torch.stack([centre - reach, centre + reach]).to(images.dtype)
    low, high = sent(ends, images.device)
    grid = grid.clamp(low[:, None, None], high[:, None, None])
    return functional.grid_sample(images, grid, padding_mode="border", align_corners=False)


def random_crops(
    pieces: Sequence[Tensor],
    size: int,
    smallest_share: float,
    generator: torch.Generator,
    each: Callable[[Callable[[int], None], Sequence[int]], Iterable[None]] = map,
) -> Tensor:
    """Cuts a random box out of each image, resizes it to `size` × `size`, flips half.

    Images are uint8 (c, h, w) of any sizes; gives floats (n, c, size, size) in [0, 1]. One at a
    time and before they become floats, antialiased, as the published transform does it: on a CPU
    that is many times faster than a sampling grid over the batch. `each` calls a function with
    every number.
    """
    heights = torch.tensor([piece.shape[1] for piece in pieces])
    widths = torch.tensor([piece.shape[2] for piece in pieces])
    boxes = random_boxes(len(pieces), heights, widths, smallest_share, generator).int().tolist()
    flipped = (torch.rand(len(pieces), generator=generator) < 0.5).tolist()
    shape = (len(pieces), pieces[0].shape[0], size, size)
    crops = _empty(shape, pieces[0].device)

    def crop(at: int) -> None:
        left, top, wide, high = boxes[at]
        image = resized(pieces[at][:, top : top + high, left : left + wide], (size, size))
        torch.div(image.flip(-1) if flipped[at] else image, 255.0, out=crops[at])

    list(each(crop, range(len(pieces))))
    return crops


def _empty(shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Floats without values, on a CPU in large pages where they fill some.

    A batch is too large for what the process keeps, so its memory comes from the system each
    time; page by small page that takes longer than cutting the crops.
    """
    size = 4 * math.prod(shape)
    if device.type != "cpu" or size < LARGE_PAGES or not hasattr(mmap, "MADV_HUGEPAGE"):
        return torch.empty(shape, device=device)
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(OSError):  # a kernel without large pages
        memory.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(memory, dtype=torch.float32).view(shape)


def random_boxes(
    count: int,
    height: int | Tensor,
    width: int | Tensor,
    smallest_share: float,
    generator: torch.Generator,
) -> Tensor:
    """Boxes (count, 4) in whole pixels: left, top, width, height, inside (height, width).

    Height and width are those of all images or, as tensors (count,), of each one.

    A share of the area uniform in [smallest_share, 1] and width over height log-uniform in
    [3/4, 4/3], drawn again up to 10 times until it fits; if it never does, the largest box in
    the middle with a ratio in that range.
    """
    height = torch.as_tensor(height, dtype=torch.float64).expand(count)
    width = torch.as_tensor(width, dtype=torch.float64).expand(count)
    draws = torch.rand(count, ATTEMPTS, 2, generator=generator, dtype=torch.float64)
    share = smallest_share + (1 - smallest_share) * draws[..., 0]
    area = share * (height * width)[:, None]
    low, high = math.log(ASPECT[0]), math.log(ASPECT[1])
    ratio = (low + (high - low) * draws[..., 1]).exp()
    wide, tall = (area * ratio).sqrt().round(), (area / ratio).sqrt().round()
    fits = (wide >= 1) & (wide <= width[:, None]) & (tall >= 1) & (tall <= height[:, None])
    first = fits.int().argmax(1, keepdim=True)
    never = ~fits.any(1)
    widest = torch.minimum(width, (height * ASPECT[1]).round())
    tallest = torch.minimum(height, (width / ASPECT[0]).round())
    wide = torch.where(never, widest, wide.gather(1, first)[:, 0])
    tall = torch.where(never, tallest, tall.gather(1, first)[:, 0])
    place = torch.rand(count, 2, generator=generator, dtype=torch.float64)
    left = torch.where(never, (width - wide) / 2, place[:, 0] * (width - wide + 1)).floor()
    top = torch.where(never, (height - tall) / 2, place[:, 1] * (height - tall + 1)).floor()
    return torch.stack([left, top, wide, tall], dim=1)
