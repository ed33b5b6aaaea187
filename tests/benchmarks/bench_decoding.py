"""Reading photographs: decoding them every epoch in worker processes against the cache.

2,000 generated JPEGs of 500 × 375 pixels, random crops at 224 as floats in [0, 1] in batches of
128, as the training step takes them. Decoding: Pillow and torchvision's RandomResizedCrop (from
the whole image, PIL's antialiased bilinear resize), flip and ToTensor in one worker process per
processor, kept alive over epochs. Cache: `random_crops` (from a stored shorter side of 256,
torch's antialiased bilinear resize of bytes, image by image, in the training process).

Products: the same crops as products of matrices on a GPU, or here where there is none.
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import DataLoader

from tests.benchmarks import measuring
from tests.benchmarks.measuring import Row
from tests.benchmarks.workers import Workers, say
from trainables.backbones import timm_compat  # before torchvision
from trainables.data.batches import TaskImages
from trainables.data.cache.cache import IMAGES, ROOT_VARIABLE, PackedImages, cached_images
from trainables.data.cache.decoding import stored_side
from trainables.data.crops import crops_at_once, crops_one_by_one, random_boxes
from trainables.data.images import StoredImages
from trainables.data.stream import ImageSet
from trainables.data_sets.file_sets import read_index

assert timm_compat
from torchvision import transforms  # noqa: E402
from torchvision.datasets import ImageFolder  # noqa: E402

COUNT, WIDTH, HEIGHT, SIZE, BATCH = 2000, 500, 375, 224, 128
CLASSES = 4
REPEATS = 3
SHARE = 0.08
PROCESSES = 10
CUTS = (crops_one_by_one, crops_at_once)


def rows() -> list[Row]:
    """Time and memory: see the names of the rows."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ[ROOT_VARIABLE] = str(Path(folder) / "cache")
        photographs = Path(folder) / "photographs"
        _write_photographs(photographs)
        index = read_index("folder:photographs", folder, "stratified")
        start = time.perf_counter()
        images = cached_images(index, stored_side(index, SIZE))
        built = f"built in {time.perf_counter() - start:.1f} s, {images.nbytes / 2**20:.0f} MiB"
        return [_epoch(photographs, images, built), _products(images), _memory(images)]


def _epoch(photographs: Path, images: PackedImages, built: str) -> Row:
    """Decoding has the published training transform."""
    crop = transforms.RandomResizedCrop(SIZE, (SHARE, 1.0))
    steps = transforms.Compose([crop, transforms.RandomHorizontalFlip(), transforms.ToTensor()])
    files, workers = ImageFolder(photographs, steps), len(os.sched_getaffinity(0))
    decoding = DataLoader(files, BATCH, shuffle=True, num_workers=workers, persistent_workers=True)
    source = StoredImages(images, SIZE, torch.device("cpu"))
    everything = ImageSet(source, torch.arange(COUNT), torch.zeros(COUNT, dtype=torch.long))
    cached = TaskImages(everything, BATCH, "random_resized_crop", torch.Generator(), SHARE)
    first = COUNT / _seconds(cached.shuffled)
    _seconds(lambda: decoding)
    turns = [(_seconds(lambda: decoding), _seconds(cached.shuffled)) for _ in range(REPEATS)]
    # The fastest of each: whatever else runs on the machine only adds.
    slow, fast = map(min, zip(*turns, strict=True))
    note = (
        f"{COUNT / fast:.0f} images/s ({first:.0f} in the first epoch, with checksums) against "
        f"{COUNT / slow:.0f} with {workers} workers: {slow / fast:.1f} times; cache {built}"
    )
    return Row("epoch of 2,000 JPEGs at 224: cache / decoding", fast / slow, 0.25, note)


def _products(images: PackedImages) -> Row:
    device = measuring.device()
    source, rows = StoredImages(images, SIZE, device), torch.arange(BATCH)
    pieces = source.pieces(rows)
    heights, widths = (torch.tensor([piece.shape[axis] for piece in pieces]) for axis in (1, 2))
    boxes = random_boxes(BATCH, heights, widths, SHARE, torch.Generator())
    flipped = rows % 2 == 0
    cuts = {cut.__name__: partial(cut, source, pieces, boxes, flipped) for cut in CUTS}
    singly, at_once = measuring.in_turns(cuts, device).values()
    note = f"{BATCH / at_once:.0f} against {BATCH / singly:.0f} images/s on {device}"
    return Row("crops of 128 images: products / image by image", at_once / singly, None, note)


def _memory(images: PackedImages) -> Row:
    """Processes that have read the whole cache and are alive together."""
    command = ["tests.benchmarks.bench_decoding", str(images.folder)]
    with Workers([command] * PROCESSES) as readers:
        readers.answers()
        readers.go_on()
        sizes: list[dict[str, int]] = [json.loads(line) for line in readers.answers()]
        sizes.append(_mapped(images.folder / IMAGES))  # this process maps it too
    resident, proportional = (sum(size[key] for size in sizes) for key in ("Rss", "Pss"))
    note = (
        f"{len(sizes)} processes: resident {resident / 2**10:.0f} MiB in all, proportional "
        f"{proportional / 2**10:.0f} MiB, file {images.nbytes / 2**20:.0f} MiB"
    )
    copies = proportional * 2**10 / images.nbytes
    return Row("memory of ten trials' images / one copy", copies, 1.05, note)


def _read_all(folder: Path) -> None:
    """Reads every image, says so, and once all have says the KiB of the file in its memory."""
    images = PackedImages(folder, 0)
    say(sum(int(images[row].sum()) for row in range(len(images))))
    sys.stdin.readline()
    say(json.dumps(_mapped(folder / IMAGES)))
    sys.stdin.readline()


def _mapped(path: Path) -> dict[str, int]:
    """Rss and Pss (KiB) of one file in this process, of /proc/self/smaps."""
    sizes: dict[str, int] = {"Rss": 0, "Pss": 0}
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        key, _, value = line.partition(":")
        if "-" in key.split()[0]:
            inside = line.endswith(str(path))
        elif inside and key in sizes:
            sizes[key] += int(value.split()[0])
    return sizes


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
