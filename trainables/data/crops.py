"""Random crops: a box of each image, resized and perhaps flipped, on the training device.

A resized crop is a product of matrices, W_y · image · W_xᵀ: each row of a matrix has the weights of
the pixels that one pixel of the result is made of. A flip is the rows of W_x in reverse.
"""

import math
import mmap
from collections.abc import Sequence
from contextlib import suppress

import torch
from torch import Tensor

from trainables.data.images import StoredImages, resized, sent

# Width over height of a random crop, and how often a box is drawn before the whole is taken.
ASPECT = (3 / 4, 4 / 3)
ATTEMPTS = 10

# Bytes of a batch from which it is worth asking for pages of 2 MiB.
LARGE_PAGES = 1 << 23

# Images whose boxes are filled up to one size: more waste memory where one of them is long.
PART = 32


def random_resized_crop(
    images: Tensor, smallest_share: float, generator: torch.Generator
) -> Tensor:
    """Cuts a random box out of every image (n, c, h, w), resizes it to (h, w), flips half.

    The boxes are those of `random_boxes`; bilinear, and no pixel outside of a box is read.
    """
    count, _, height, width = images.shape
    boxes = random_boxes(count, height, width, smallest_share, generator)
    flipped = torch.rand(count, generator=generator) < 0.5
    return _cut(images, boxes, flipped, (height, width))


def random_crops(
    source: StoredImages, rows: Tensor, smallest_share: float, generator: torch.Generator
) -> Tensor:
    """Cuts a random box out of whole images, resizes it to the source's size, flips half.

    Gives floats (n, c, size, size) in [0, 1] of whole levels, antialiased as the published
    transform does it. On a CPU one image at a time and before they become floats, which is many
    times faster there than products; elsewhere all at once.
    """
    pieces = source.pieces(rows)
    heights = torch.tensor([piece.shape[1] for piece in pieces])
    widths = torch.tensor([piece.shape[2] for piece in pieces])
    boxes = random_boxes(len(pieces), heights, widths, smallest_share, generator)
    flipped = torch.rand(len(pieces), generator=generator) < 0.5
    cut = crops_one_by_one if source.device.type == "cpu" else crops_at_once
    return cut(source, pieces, boxes, flipped)


def crops_one_by_one(
    source: StoredImages, pieces: Sequence[Tensor], boxes: Tensor, flipped: Tensor
) -> Tensor:
    """Boxes (n, 4) of images uint8 (c, h, w) of any sizes, flipped where (n,) says so."""
    places, flips = boxes.int().tolist(), flipped.tolist()
    crops = _empty((len(pieces), pieces[0].shape[0], source.size, source.size))

    def crop(at: int) -> None:
        left, top, wide, high = places[at]
        box = pieces[at][:, top : top + high, left : left + wide]
        image = resized(box, (source.size, source.size))
        torch.div(image.flip(-1) if flips[at] else image, 255.0, out=crops[at])

    source.each(crop, range(len(pieces)))
    return crops


def crops_at_once(
    source: StoredImages, pieces: Sequence[Tensor], boxes: Tensor, flipped: Tensor
) -> Tensor:
    """As `crops_one_by_one`, as products of matrices on the device; the same to one level.

    Boxes are copied into one array on the host, so that they travel as one, and without what is
    around them.
    """
    parts = [slice(at, at + PART) for at in range(0, len(pieces), PART)]
    return torch.cat([_part(source, pieces[at], boxes[at], flipped[at]) for at in parts])


def _part(source: StoredImages, pieces: Sequence[Tensor], boxes: Tensor, flipped: Tensor) -> Tensor:
    places = boxes.int().tolist()
    widest, highest = boxes[:, 2:].amax(0).int().tolist()
    filled = torch.zeros(len(pieces), pieces[0].shape[0], highest, widest, dtype=torch.uint8)

    def fill(at: int) -> None:
        left, top, wide, high = places[at]
        filled[at, :, :high, :wide] = pieces[at][:, top : top + high, left : left + wide]

    source.each(fill, range(len(pieces)))
    inside = torch.cat([torch.zeros_like(boxes[:, :2]), boxes[:, 2:]], dim=1)
    images = sent(filled, source.device).float()
    return _cut(images, inside, flipped, (source.size, source.size)).round_().clamp_(0, 255) / 255


def _cut(images: Tensor, boxes: Tensor, flipped: Tensor, size: tuple[int, int]) -> Tensor:
    """Boxes (n, 4) of floats (n, c, h, w) as (n, c, *size): W_y · image · W_xᵀ."""
    height, width = images.shape[-2:]
    left, top, wide, high = sent(boxes.to(images.dtype), images.device).unbind(1)
    columns = interpolation(left, wide, width, size[1], sent(flipped, images.device))
    rows = interpolation(top, high, height, size[0])
    return rows[:, None] @ (images @ columns[:, None].mT)


def interpolation(
    start: Tensor, length: Tensor, pixels: int, size: int, reverse: Tensor | None = None
) -> Tensor:
    """Weights (n, size, pixels) by which `length` (n,) pixels from `start` (n,) on become `size`.

    Bilinear, antialiased as Pillow and torch do it: a triangle around the centre of each pixel of
    the result, one pixel wide to each side, or as wide as a pixel of the result where that is
    more; pixels outside of the stretch have no weight. Where `reverse` (n,), the last comes first.
    """
    scale = (length / size)[:, None, None]
    place = torch.arange(size, device=length.device).expand(len(length), size)
    if reverse is not None:
        place = torch.where(reverse[:, None], size - 1 - place, place)
    centre = (place[..., None] + 0.5) * scale
    offset = torch.arange(pixels, device=length.device) - start[:, None, None]
    weights = (1 - (offset + 0.5 - centre).abs() / scale.clamp_min(1)).clamp_min_(0)
    weights *= (offset >= 0) & (offset < length[:, None, None])
    return weights / weights.sum(-1, keepdim=True)


def _empty(shape: tuple[int, ...]) -> Tensor:
    """Floats without values on the CPU, in large pages where they fill some.

    A batch is too large for what the process keeps, so its memory comes from the system each
    time; page by small page that takes longer than cutting the crops.
    """
    size = 4 * math.prod(shape)
    if size < LARGE_PAGES or not hasattr(mmap, "MADV_HUGEPAGE"):
        return torch.empty(shape)
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
