"""Reading photographs: decoding them every epoch in worker processes against the cache.

2,000 generated JPEGs of 500 × 375 pixels, random crops at 224 as floats in [0, 1] in batches of
128, as the training step takes them. Decoding: Pillow and torchvision's RandomResizedCrop (from
the whole image, PIL's antialiased bilinear resize), flip and ToTensor in one worker process per
processor, kept alive over epochs. Cache: `random_crops` (from a stored shorter side of 256,
torch's antialiased bilinear resize of bytes, image by image, in the training process).
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tests.benchmarks.row import Row
from trainables import timm_compat  # before torchvision
from trainables.data.batches import TaskImages, random_crops, random_resized_crop, to_unit
from trainables.data.cache import IMAGES, ROOT_VARIABLE, PackedImages, cached_images
from trainables.data.decoding import stored_side
from trainables.data.file_sets import read_index
from trainables.data.images import StoredImages
from trainables.data.index import ImageIndex
from trainables.data.stream import ImageSet

assert timm_compat
from torchvision import transforms  # noqa: E402

COUNT, WIDTH, HEIGHT, SIZE, BATCH = 2000, 500, 375, 224, 128
CLASSES = 4
REPEATS = 3
SHARE = 0.08
PROCESSES = 10


class Photographs(Dataset[Tensor]):
    """Decodes and crops one image, as the published training transform."""

    def __init__(self, index: ImageIndex) -> None:
        self._index = index
        self._transform = transforms.Compose(
            [
                transforms.RandomResizedCrop(SIZE, (SHARE, 1.0)),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
            ]
        )

    def __len__(self) -> int:
        return len(self._index.entries)

    def __getitem__(self, row: int) -> Tensor:
        path = self._index.root / self._index.entries[row].path
        with Image.open(path) as image:
            cropped: Tensor = self._transform(image.convert("RGB"))
        return cropped


def rows() -> list[Row]:
    """Time and memory: see the names of the rows."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ[ROOT_VARIABLE] = str(Path(folder) / "cache")
        _write_photographs(Path(folder) / "photographs")
        index = read_index("folder:photographs", folder, "stratified")
        start = time.perf_counter()
        images = cached_images(index, stored_side(index, SIZE))
        built = f"built in {time.perf_counter() - start:.1f} s, {images.nbytes / 2**20:.0f} MiB"
        return [_epoch(index, images, built), _crops(images), _memory(images)]


def _epoch(index: ImageIndex, images: PackedImages, built: str) -> Row:
    workers = len(os.sched_getaffinity(0))
    decoding = DataLoader(
        Photographs(index), BATCH, shuffle=True, num_workers=workers, persistent_workers=True
    )
    source = StoredImages(images, SIZE, torch.device("cpu"))
    everything = ImageSet(source, torch.arange(COUNT), torch.zeros(COUNT, dtype=torch.long))
    cached = TaskImages(everything, BATCH, "random_resized_crop", torch.Generator(), SHARE)
    first = COUNT / _seconds(cached.shuffled)
    _seconds(lambda: decoding)
    decode, crop = [], []
    for _ in range(REPEATS):
        decode.append(_seconds(lambda: decoding))
        crop.append(_seconds(cached.shuffled))
    # The fastest of each: whatever else runs on the machine only adds.
    slow, fast = min(decode), min(crop)
    note = (
        f"{COUNT / fast:.0f} images/s ({first:.0f} in the first epoch, with checksums) against "
        f"{COUNT / slow:.0f} with {workers} workers: {slow / fast:.1f} times; cache {built}"
    )
    return Row("epoch of 2,000 JPEGs at 224: cache / decoding", fast / slow, 0.25, note)


def _crops(images: PackedImages) -> Row:
    """On stored images of one size, since a grid needs a batch."""
    pieces = [torch.from_numpy(images[row].copy()).permute(2, 0, 1) for row in range(BATCH)]
    batch = torch.stack(pieces)
    source = StoredImages(images, SIZE, torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)

    def by_grid() -> Iterable[Tensor]:
        # It gives crops of the stored size; only the part that belongs to 224 × 224 is counted.
        yield random_resized_crop(to_unit(batch), SHARE, generator)

    def one_by_one() -> Iterable[Tensor]:
        yield random_crops(pieces, SIZE, SHARE, generator, source.each)

    pixels = SIZE * SIZE / (batch.shape[-1] * batch.shape[-2])
    grid = min(_seconds(by_grid) for _ in range(REPEATS)) * pixels
    single = min(_seconds(one_by_one) for _ in range(REPEATS))
    note = f"{single / BATCH * 1e3:.2f} ms an image"
    return Row("crops of a batch: one by one as bytes / sampling grid", single / grid, 1.0, note)


def _memory(images: PackedImages) -> Row:
    """Processes that have read the whole cache and are alive together."""
    command = [sys.executable, "-m", "tests.benchmarks.bench_decoding", str(images.folder)]
    readers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(PROCESSES)
    ]
    try:
        _talk(readers)
        found: list[dict[str, int]] = [json.loads(line) for line in _talk(readers)]
        found.append(_mapped(images.folder / IMAGES))  # this process maps it too
    finally:
        for reader in readers:
            reader.kill()
            reader.wait()
    resident, proportional = (sum(one[key] for one in found) for key in ("Rss", "Pss"))
    note = (
        f"{len(found)} processes: resident {resident / 2**10:.0f} MiB in all, proportional "
        f"{proportional / 2**10:.0f} MiB, file {images.nbytes / 2**20:.0f} MiB"
    )
    return Row(
        "memory of ten trials' images / one copy", proportional * 2**10 / images.nbytes, 1.05, note
    )


def _talk(readers: list[subprocess.Popen[str]]) -> list[str]:
    """One line to each and one line back from each."""
    answers = []
    for reader in readers:
        assert reader.stdin is not None
        reader.stdin.write("\n")
        reader.stdin.flush()
    for reader in readers:
        assert reader.stdout is not None
        answers.append(reader.stdout.readline())
    return answers


def _read_all(folder: Path) -> None:
    """Reads every image, says so, and says the KiB of the mapped file in its memory."""
    images = PackedImages(folder, 0)
    for asked in range(2):
        sys.stdin.readline()
        if asked == 0:
            total = sum(int(images[row].sum()) for row in range(len(images)))
            sys.stdout.write(f"{total}\n")
        else:
            sys.stdout.write(f"{json.dumps(_mapped(folder / IMAGES))}\n")
        sys.stdout.flush()
    sys.stdin.readline()


def _mapped(path: Path) -> dict[str, int]:
    """Rss and Pss (KiB) of one file in this process, of /proc/self/smaps."""
    found: dict[str, int] = {"Rss": 0, "Pss": 0}
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        key, _, value = line.partition(":")
        if "-" in key.split()[0]:
            inside = line.endswith(str(path))
        elif inside and key in found:
            found[key] += int(value.split()[0])
    return found


def _seconds(batches: Callable[[], Any]) -> float:
    start = time.perf_counter()
    for batch in batches():
        del batch
    return time.perf_counter() - start


def _write_photographs(folder: Path) -> None:
    """Windows of a few large random textures whose amplitude falls with the frequency."""
    rng = np.random.default_rng(0)
    textures = [_texture(rng) for _ in range(6)]
    for label in range(CLASSES):
        (folder / str(label)).mkdir(parents=True)
    for number in range(COUNT):
        texture = textures[number % len(textures)]
        top, left = (int(rng.integers(0, room)) for room in (1024 - HEIGHT, 1024 - WIDTH))
        window = texture[top : top + HEIGHT, left : left + WIDTH]
        path = folder / str(number % CLASSES) / f"{number}.jpg"
        Image.fromarray(window).save(path, quality=90)


def _texture(rng: np.random.Generator) -> NDArray[np.uint8]:
    frequency = np.hypot(np.fft.fftfreq(1024)[:, None], np.fft.rfftfreq(1024)[None])
    amplitude = np.maximum(frequency, 1 / 1024) ** -1.3
    phases = np.exp(2j * np.pi * rng.random((3, *amplitude.shape)))
    # Three channels that go together.
    channels = np.fft.irfft2(amplitude * (phases + 2 * phases[:1]), (1024, 1024))
    standard = (channels - channels.mean()) / channels.std()
    levels: NDArray[np.float64] = np.clip(128 + 50 * standard, 0, 255)
    return levels.astype(np.uint8).transpose(1, 2, 0)


if __name__ == "__main__":
    _read_all(Path(sys.argv[1]))
