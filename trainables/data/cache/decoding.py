"""Pixels of an index's entries: checked, brought to one number of channels, shrunk; no torch."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from trainables.data_sets.index import Entry, ImageIndex

# As in both papers' test transforms: resize to 256, of which the middle 224 are cut out.
MARGIN = 256 / 224

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class DecodedImages:
    """The images of an index, decoded anew each time one is asked for (`data.cache: off`).

    `side` is what the shorter side of an image is resized to for evaluation; here images keep
    the size of their files, so that random crops are cut from the full resolution.
    """

    index: ImageIndex
    side: int

    @property
    def bicubic(self) -> bool:
        """Whether views are resized bicubically."""
        return self.index.bicubic

    def __len__(self) -> int:
        return len(self.index.entries)

    def __getitem__(self, row: int) -> Pixels:
        """Image (h, w, channels) of one entry; ValueError naming the file if it is corrupt."""
        return read_image(self.index.decode, self.index.entries[row], self.index.channels)


def stored_side(index: ImageIndex, size: int) -> int:
    """Length of an image's shorter side (pixels) from which views of `size` pixels are cut.

    Files are photographs and get the margin of the published test transforms; rows of archives
    are small and resized whole, as published for CIFAR-100 by InfLoRA; the released SD-LoRA, whose
    views are bicubic, gives them the margin too.
    """
    return size if is_archived(index) and not index.bicubic else round(size * MARGIN)


def is_archived(index: ImageIndex) -> bool:
    """Whether all images are rows of archives ("file#row"), which are read, not decoded."""
    return all("#" in entry.path for entry in index.entries)


def read_image(decode: Callable[[Entry], Pixels], entry: Entry, channels: int) -> Pixels:
    """Image (h, w, channels), grey repeated for colours; ValueError if it is no such image."""
    image = np.ascontiguousarray(decode(entry))
    if image.dtype != np.uint8 or image.ndim != 3 or not image.size:
        raise ValueError(
            f"an image must be uint8 (h, w, channels), but {entry.path} is {image.dtype} "
            f"{image.shape}."
        )
    if image.shape[2] == 1 and channels > 1:
        return np.repeat(image, channels, axis=2)
    if image.shape[2] != channels:
        raise ValueError(
            f"an image must have {channels} channel(s), but {entry.path} has {image.shape[2]}."
        )
    return image


def fit(image: Pixels, side: int, bicubic: bool = False, enlarge: bool = False) -> Pixels:
    """Shrinks (h, w, c) so that the shorter side is `side`; a smaller one is left as it is.

    Bilinear or bicubic with antialiasing, as torchvision's Resize on a PIL image, bit for bit; a
    smaller image too where `enlarge` says so.
    """
    height, width = image.shape[:2]
    short = min(height, width)
    if short == side or (short < side and not enlarge):
        return image
    target = (int(side * width / short), int(side * height / short))
    source = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
    kernel = Image.Resampling.BICUBIC if bicubic else Image.Resampling.BILINEAR
    resized = np.array(source.resize(target, kernel))
    return resized[..., None] if resized.ndim == 2 else resized
