"""The embedded `icons` benchmark: one class per concept, one image per family that draws it."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trainables.data_sets.packed import Bytes, read_packed

ICONS_FILE = Path(__file__).with_name("icons.bin")
ICON_SIZES = (32, 64)
MAGIC = b"ICONSET1"
KIND = "an icons file"

Labels = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class IconSet:
    """All images of the benchmark at one size, ordered by class and then by family.

    `images` (n, size, size) is grey with white (255) background in steps of 17; `labels` and
    `families` (n,) index `class_names` and `family_names`; `is_test` (n,) is the stored split.
    """

    images: Bytes
    labels: Labels
    is_test: Mask
    families: Labels
    class_names: tuple[str, ...]
    family_names: tuple[str, ...]


def load_icons(size: int) -> IconSet:
    """Read the benchmark at `size` (32 or 64) pixels; ValueError for any other size."""
    return read_icons(ICONS_FILE.read_bytes(), size)


def read_icons(content: bytes, size: int) -> IconSet:
    """Decode the bytes of a built file at `size` pixels; ValueError if they are not one."""
    if size not in ICON_SIZES:
        raise ValueError(f"icons are rendered at {ICON_SIZES} pixels, but got {size=}.")
    file = read_packed(content, MAGIC, KIND)
    header = file.header
    index = np.frombuffer(file.block("index"), "<u2").reshape(3, int(header["images"]))
    labels, families, is_test = index[0].astype(np.int64), index[1].astype(np.int64), index[2] > 0
    images = file.images(str(size), size)
    names = tuple(str(synonyms[0]) for synonyms in header["classes"])
    return IconSet(images, labels, is_test, families, names, tuple(header["families"]))


def load_icons_metadata() -> dict[str, Any]:
    """Read the file's header.

    Keys: `package`, `version` and `sha256` of the tarball, `content_sha256`, `images`, `families`
    (prefixes) and `classes` (for each class its name followed by its merged synonyms).
    """
    header = read_packed(ICONS_FILE.read_bytes(), MAGIC, KIND).header
    return {key: value for key, value in header.items() if key != "blocks"}


def content_sha256(small: IconSet, large: IconSet) -> str:
    """Hash the decoded arrays and names of the 32 and the 64 pixel set."""
    digest = hashlib.sha256()
    digest.update(json.dumps([small.class_names, small.family_names]).encode())
    for array in (small.labels, small.families, small.is_test, small.images, large.images):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def unseen_family_split(icon_set: IconSet, share: float, seed: int) -> Mask:
    """Return a test mask (n,) of whole families holding at least `share` of the images.

    Families are drawn at random, but one whose removal would leave a class without training
    images is passed over. ValueError unless 0 < share < 1.
    """
    if not 0.0 < share < 1.0:
        raise ValueError(f"share must be in (0, 1), but got {share=}.")
    classes = len(icon_set.class_names)
    is_test = np.zeros(len(icon_set.labels), np.bool_)
    for family in np.random.default_rng(seed).permutation(len(icon_set.family_names)):
        if is_test.mean() >= share:
            break
        grown = is_test | (icon_set.families == family)
        if np.bincount(icon_set.labels[~grown], minlength=classes).min() > 0:
            is_test = grown
    return is_test
