"""Small trees of files in exactly the published layouts."""

import gzip
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def photograph(path: Path, seed: int, size: tuple[int, int] = (12, 9)) -> None:
    """Writes an image whose suffix says its format; one colour, so that JPEG keeps it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    colour = tuple(int(level) for level in np.random.default_rng(seed).integers(0, 256, 3))
    Image.new("RGB", size, colour).save(path, quality=95)


def class_folders(folder: Path, names: Sequence[str], images: int, suffix: str = ".jpg") -> None:
    for label, name in enumerate(names):
        for number in range(images):
            photograph(folder / name / f"art_{number}{suffix}", 1000 * label + number)


def cub(root: Path, classes: int, images: int) -> Path:
    """CUB-200-2011: one image of each class is tested on."""
    folder = root / "CUB_200_2011"
    rows = []
    for label in range(1, classes + 1):
        for number in range(images):
            name = f"{label:03d}.Bird_{label}/Bird_{label}_{number:04d}.jpg"
            photograph(folder / "images" / name, 100 * label + number)
            rows.append((name, label, int(number > 0)))
    for file, column in (
        ("images.txt", 0),
        ("image_class_labels.txt", 1),
        ("train_test_split.txt", 2),
    ):
        lines = [f"{number} {row[column]}\n" for number, row in enumerate(rows, start=1)]
        (folder / file).write_text("".join(lines), encoding="utf-8")
    return folder


def domainnet(root: Path, domains: Sequence[str], classes: int) -> Path:
    """DomainNet's lists and folders: one training and one test image of a class in a domain."""
    folder = root / "domainnet"
    for at, domain in enumerate(domains):
        for number, split in enumerate(("train", "test")):
            lines = []
            for label in range(classes):
                name = f"{domain}/thing_{label}/{domain}_{label:03d}_{number:06d}.jpg"
                photograph(folder / name, 100 * at + 10 * label + number)
                lines.append(f"{name} {label}\n")
            (folder / f"{domain}_{split}.txt").write_text("".join(lines), encoding="utf-8")
    return folder


def cifar(root: Path, train: int, test: int, classes: int) -> Path:
    """The python version of CIFAR-100, pickled as Python 2 pickled it."""
    folder = root / "cifar-100-python"
    folder.mkdir(parents=True)
    names = [f"fine_{label:02d}" for label in range(classes)]
    (folder / "meta").write_bytes(python2_pickle({"fine_label_names": names}))
    for split, count in (("train", train), ("test", test)):
        (folder / split).write_bytes(cifar_batch(count, classes, len(split)))
    return folder


def cifar_batch(count: int, classes: int, seed: int) -> bytes:
    data = np.random.default_rng(seed).integers(0, 256, (count, 3072), np.uint8)
    labels = [row % classes for row in range(count)]
    files = [f"image_{row}.png" for row in range(count)]
    return python2_pickle({"filenames": files, "fine_labels": labels, "data": data})


def python2_pickle(content: Mapping[str, list[str] | list[int] | NDArray[np.uint8]]) -> bytes:
    """Protocol 2 with the strings of Python 2 (bytes without an encoding), which 3 cannot write."""
    body = b"".join(_text(key) + _value(value) for key, value in content.items())
    return b"\x80\x02}(" + body + b"u."


def _value(value: list[str] | list[int] | NDArray[np.uint8]) -> bytes:
    if isinstance(value, list):
        items = [_text(item) if isinstance(item, str) else b"K" + bytes([item]) for item in value]
        return b"](" + b"".join(items) + b"e"
    made = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85U\x01btR"
    kind = b"cnumpy\ndtype\n(U\x02u1K\x00K\x01tR"
    kind += b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    shape = b"(" + b"".join(b"J" + struct.pack("<i", length) for length in value.shape) + b"t"
    raw = value.tobytes()
    pixels = b"T" + struct.pack("<i", len(raw)) + raw
    return made + b"(K\x01" + shape + kind + b"\x89" + pixels + b"tb"


def _text(text: str) -> bytes:
    return b"U" + bytes([len(text)]) + text.encode("latin1")


def idx(root: Path, per_class: int, side: int = 28) -> Path:
    """Fashion-MNIST as Debian ships it."""
    folder = root / "fashion-mnist"
    folder.mkdir(parents=True)
    for seed, prefix in enumerate(("train", "t10k")):
        labels = np.arange(10 * per_class, dtype=np.uint8) % 10
        images = np.random.default_rng(seed).integers(0, 256, (len(labels), side, side), np.uint8)
        for array, name in ((images, "images-idx3"), (labels, "labels-idx1")):
            header = bytes((0, 0, 8, array.ndim)) + np.array(array.shape, ">u4").tobytes()
            content = gzip.compress(header + array.tobytes(), mtime=0)
            (folder / f"{prefix}-{name}-ubyte.gz").write_bytes(content)
    return folder


def with_code(marker: Path) -> bytes:
    """A pickle that would make the folder `marker` when it is loaded."""
    return f"cposix\nmkdir\n(V{marker}\ntR.".encode()
