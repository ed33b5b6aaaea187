"""Where images come from: one shared array in memory, or pieces of a file read on demand."""

import hashlib
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Barrier
from typing import Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from trainables.data.cache.cache import PackedImages
from trainables.data.cache.decoding import Pixels, fit

Result = TypeVar("Result")


class Pieces(Protocol):
    """Images (h, w, channels) of different sizes by row; the rest as in `DecodedImages`."""

    @property
    def side(self) -> int:
        """What the shorter side is resized to for evaluation, in pixels."""

    @property
    def bicubic(self) -> bool:
        """Whether views are resized bicubically."""

    def __len__(self) -> int: ...

    def __getitem__(self, row: int) -> Pixels: ...


class ImageSource(Protocol):
    """All images of a data set, shared by the tasks of a stream, on or for one device."""

    @property
    def device(self) -> torch.device:
        """Where batches are."""

    @property
    def mark(self) -> str | None:
        """Hash of all images as they are evaluated; None where they are decoded every time."""

    def views(self, rows: Tensor) -> Tensor:
        """The images of some rows as they are evaluated, uint8 (n, channels, size, size)."""


@dataclass(frozen=True)
class ArrayImages:
    """Images of one size as one uint8 tensor (n, channels, size, size) on the device."""

    images: Tensor

    @property
    def device(self) -> torch.device:
        """Where batches are."""
        return self.images.device

    @property
    def mark(self) -> str:
        """Hash of all pixels."""
        digest = hashlib.sha256(str(tuple(self.images.shape)).encode())
        digest.update(self.images.cpu().contiguous().numpy().data)
        return digest.hexdigest()

    def views(self, rows: Tensor) -> Tensor:
        """Copies of some rows."""
        return self.images[sent(rows, self.device)]


class StoredImages:
    """Images of files, of different sizes, that stay where they are; only batches are copied.

    `size` is the resolution the network sees. Evaluation resizes the shorter side to the pieces'
    `side` and cuts the middle `size` × `size` out; random crops are cut from whole pieces. A
    cache's pieces are no larger than evaluation needs, so small crops are enlarged more than they
    would be from the files: at 224 from a shorter side of 256, crops of two photographs of
    427 × 640 pixels differ from those of the files by 4 to 5 levels (of 255) on average where the
    box has less than a third of the area, by 3 at a half and by 2 above 0.7.
    """

    def __init__(self, stored: Pieces, size: int, device: torch.device) -> None:
        _take_read_only_arrays()
        self.stored, self.size, self.device = stored, size, device
        self._threads = torch.get_num_threads()
        self._pool = _single_threads(self._threads) if self._threads > 1 else None

    @property
    def mark(self) -> str | None:
        """That of a cache, with how views of it are cut."""
        if not isinstance(self.stored, PackedImages):
            return None
        return f"{self.stored.mark} {self.stored.side} {self.stored.bicubic} {self.size}"

    def views(self, rows: Tensor) -> Tensor:
        """Resized and cut in the middle, as torchvision's Resize and CenterCrop."""
        return torch.stack(self.each(self._view, rows.tolist()))

    def pieces(self, rows: Tensor) -> list[Tensor]:
        """Whole images uint8 (channels, h, w) as stored, on the host."""
        return self.each(lambda row: _tensor(self.stored[row]), rows.tolist())

    def each(self, function: Callable[[int], Result], items: Sequence[int]) -> list[Result]:
        """Applies a function to each item, in order, on as many threads as torch may use.

        Work on one image is too small for torch to share out: its threads would wait for each
        other at every step.
        """
        if self._pool is None:
            return [function(item) for item in items]
        parts = [items[start :: self._threads] for start in range(self._threads)]
        results = list(self._pool.map(lambda part: [function(item) for item in part], parts))
        return [results[at % self._threads][at // self._threads] for at in range(len(items))]

    def _view(self, row: int) -> Tensor:
        side = self.stored.side
        # Bicubic enlargement as Pillow rounds it, which torch does not.
        bicubic = self.stored.bicubic
        piece = _tensor(fit(self.stored[row], side, bicubic, bicubic)).to(self.device)
        height, width = piece.shape[-2:]
        short = min(height, width)
        if short < side:
            piece = resized(piece, (int(side * height / short), int(side * width / short)))
            height, width = piece.shape[-2:]
        top, left = round((height - self.size) / 2), round((width - self.size) / 2)
        return piece[:, top : top + self.size, left : left + self.size]


def resized(image: Tensor, size: tuple[int, int]) -> Tensor:
    """uint8 (channels, h, w) at another size: bilinear, antialiased, rounded."""
    if image.device.type == "cpu":
        return functional.interpolate(image[None], size, mode="bilinear", antialias=True)[0]
    # On a GPU there is no such kernel for bytes.
    floats = functional.interpolate(image[None].float(), size, mode="bilinear", antialias=True)
    return floats[0].round_().clamp_(0, 255).to(torch.uint8)


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """A small tensor on a device; the process does not wait for its copy to a GPU."""
    if device.type != "cuda" or tensor.device.type != "cpu":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def image_source(
    images: NDArray[np.uint8] | Pieces, size: int, device: torch.device
) -> ImageSource:
    """Arrays (n, channels, size, size) go to the device at once; pieces stay where they are."""
    if isinstance(images, np.ndarray):
        _take_read_only_arrays()
        return ArrayImages(torch.from_numpy(images).to(device))
    return StoredImages(images, size, device)


def _tensor(image: Pixels) -> Tensor:
    """(channels, h, w) without a copy."""
    return torch.from_numpy(image).permute(2, 0, 1)


def _take_read_only_arrays() -> None:
    """Lets torch give its one warning of read-only arrays: a mapped file is never written to.

    Here and not around each use, since the filters of warnings are shared by all threads.
    """
    array = np.zeros(1, np.uint8)
    array.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.from_numpy(array)


def _single_threads(count: int) -> ThreadPoolExecutor:
    """Threads in each of which torch uses that thread alone."""
    pool, all_started = ThreadPoolExecutor(count), Barrier(count)

    def start(_: int) -> None:
        torch.get_num_threads()  # the first call in a thread takes the number of all over
        torch.set_num_threads(1)  # of this thread, and of those that start after it
        all_started.wait()

    list(pool.map(start, range(count)))
    torch.set_num_threads(count)  # for threads that start from now on
    return pool
