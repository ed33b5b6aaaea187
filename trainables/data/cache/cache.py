"""Decode once: the images of an index in one memory-mapped file that all trials of a node share.

A cache is a folder `<name>-<key>` with three files: `images.bin` (the pixels of all images one
after the other, each (h, w, channels), its shorter side at most `side`), `table.npy` (where each
one lies, with checksums of its pixels and of its file, and the mark of its pixels as decoded) and
`header.json`. The key hashes the index's fingerprint, the side, the channels and the version of
this format. A folder is written under another name and renamed when it is whole.
"""

import errno
import hashlib
import io
import json
import logging
import os
import shutil
import time
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainables.data.cache.decoding import Pixels, is_archived
from trainables.data.cache.folders import HEADER, IMAGES, TABLE, file_name, locked, mark_used
from trainables.data.cache.packing import packed_chunks
from trainables.data_sets.index import ImageIndex, file_crc32, file_sha256

CACHE_VERSION = 3
ROOT_VARIABLE = "LRCS_CACHE_ROOT"
# From the images written so far the bytes needed are estimated; the first few say too little.
ENOUGH_TO_ESTIMATE = 0.05

logger = logging.getLogger(__name__)


class PackedImages:
    """The images of a cache, read from the mapped file; the others as in `DecodedImages`."""

    def __init__(self, folder: Path, side: int, bicubic: bool = False) -> None:
        self.folder, self.side, self.bicubic = folder, side, bicubic
        self._table: NDArray[np.int64] = np.load(folder / TABLE)
        self._data = np.memmap(folder / IMAGES, np.uint8, mode="r")
        self._checked = np.zeros(len(self._table), np.bool_)

    def __len__(self) -> int:
        return len(self._table)

    @property
    def nbytes(self) -> int:
        """Bytes of all pixels on disk."""
        return self._data.nbytes

    def __getitem__(self, row: int) -> Pixels:
        """Image (h, w, channels), read-only; ValueError if its pixels are not those written."""
        start, height, width, channels, checksum, *_ = self._table[row].tolist()
        flat = self._data[start : start + height * width * channels]
        if not self._checked[row]:
            if zlib.crc32(flat.data) != checksum:
                raise ValueError(
                    f"image {row} of the cache {self.folder} must have the checksum {checksum}, "
                    f"but the file has changed since it was written: remove that folder, and it "
                    f"will be built again."
                )
            self._checked[row] = True
        return flat.reshape(height, width, channels)

    def stacked(self) -> Pixels:
        """All images (n, h, w, channels), which must be of one size, as they lie in the file."""
        _, height, width, channels, *_ = self._table[0].tolist()
        return np.asarray(self._data).reshape(-1, height, width, channels)

    @property
    def mark(self) -> str:
        """Hash of what all pixels are and where they lie."""
        return hashlib.sha256(self._table.data).hexdigest()

    @property
    def file_marks(self) -> NDArray[np.int64]:
        """Of each image the checksum of the file that was decoded; 0 of a row of an archive."""
        return self._table[:, -2]

    @property
    def pixel_marks(self) -> NDArray[np.int64]:
        """Of each image the `pixel_mark` before it was shrunk: equal where all pixels are."""
        return self._table[:, -1]


def known_images(index: ImageIndex, side: int) -> PackedImages | None:
    """The cache of an index where this machine has it, else None; ValueError as `cached_images`."""
    return _open(_folder(index, side), side, index.bicubic)


def cached_images(index: ImageIndex, side: int) -> PackedImages:
    """Opens the cache of an index at `side` pixels; builds it first where there is none.

    Of several processes one builds and the others wait for it. Every image is checked when it
    is first read. ValueError if an image is corrupt, or the cache would lie inside of the
    data's folder. OSError if the disk is full: with the folder and the bytes that are needed.
    """
    folder = _folder(index, side)
    images = _open(folder, side, index.bicubic)
    if images is not None:
        return images
    with locked(folder):
        images = _open(folder, side, index.bicubic)  # another process may have built it meanwhile
        return _build(index, side, folder) if images is None else images


def prepare_cache(index: ImageIndex, side: int) -> PackedImages:
    """As `cached_images`, but reads every image back, and builds all again where one is damaged.

    Image files are read too (no archives, whose hash is in the key): what they hold must be what
    was decoded, even where size and times are the same.
    """
    images = cached_images(index, side)
    try:
        _check_all(images, index)
    except ValueError as error:
        logger.warning("%s It is built again now.", error)
        with locked(images.folder):
            return _build(index, side, images.folder)
    return images


def cache_root() -> Path:
    """The folder of all caches: the environment's LRCS_CACHE_ROOT, else ~/.cache/lrcs."""
    named = os.environ.get(ROOT_VARIABLE)
    return Path(named).expanduser().absolute() if named else Path.home() / ".cache" / "lrcs"


def _check_all(images: PackedImages, index: ImageIndex) -> None:
    """ValueError for pixels that are not those written, or a file that is not that decoded."""
    for row in range(len(images)):
        images[row]
    for row, entry in enumerate(() if is_archived(index) else index.entries):
        if file_crc32(index.root / entry.path) != images.file_marks[row]:
            raise ValueError(
                f"{index.root / entry.path} must be the file that was decoded into the cache "
                f"{images.folder}, but has another content since."
            )


def _folder(index: ImageIndex, side: int) -> Path:
    root = cache_root()
    # A set that comes with a package has no folder.
    if index.root.is_absolute() and root.resolve().is_relative_to(index.root.resolve()):
        raise ValueError(
            f"the cache must not lie inside of the data's folder {index.root}, but {ROOT_VARIABLE} "
            f"gives {root}."
        )
    settings = [CACHE_VERSION, index.fingerprint, side, index.channels]
    settings += ["bicubic"] if index.bicubic else []
    key = hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:24]
    return root / f"{file_name(index.name)}-{key}"


def _open(folder: Path, side: int, bicubic: bool) -> PackedImages | None:
    """The cache if it is whole and of this version, else None."""
    try:
        header = json.loads((folder / HEADER).read_text(encoding="utf-8"))
        if header["version"] != CACHE_VERSION or header["folder"] != folder.name:
            raise ValueError(f"it is of version {header['version']}, as {header['folder']}")
        if (folder / IMAGES).stat().st_size != header["bytes"]:
            raise ValueError(f"{IMAGES} must have {header['bytes']} bytes")
        if file_sha256(folder / TABLE) != header["table_sha256"]:
            raise ValueError(f"{TABLE} has changed")
        images = PackedImages(folder, side, bicubic)
        mark_used(folder)
        return images
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        logger.warning("the cache %s is not used and built again: %s", folder, error)
        return None


def _build(index: ImageIndex, side: int, folder: Path) -> PackedImages:
    """Writes a cache beside its place and renames it; the caller holds the lock."""
    for leftover in folder.parent.glob(f"{folder.name}.partial-*"):
        shutil.rmtree(leftover)  # of a process that was killed: nobody else writes now
    partial = folder.with_name(f"{folder.name}.partial-{os.getpid()}")
    start = time.monotonic()
    logger.info("decoding %s images of %s into %s", len(index.entries), index.name, folder)
    try:
        _write(index, side, partial, folder.name)
        if folder.exists():
            shutil.rmtree(folder)
        partial.rename(folder)
        _sync(folder.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    logger.info("decoded %s in %.0f s", index.name, time.monotonic() - start)
    return PackedImages(folder, side, index.bicubic)


def _write(index: ImageIndex, side: int, partial: Path, name: str) -> None:
    count, written = len(index.entries), 0
    table: list[tuple[int, ...]] = []
    try:
        partial.mkdir()
        with (partial / IMAGES).open("wb") as file:
            for content, places in packed_chunks(index, side):
                file.write(content)
                for place in places:
                    table.append((written, *place))
                    written += place[0] * place[1] * place[2]
                _check_space(partial, len(table), count, written)
            file.flush()
            os.fsync(file.fileno())
        # Not to the file itself: numpy says of a full disk how many numbers it wrote, and no more.
        np.save(numbers := io.BytesIO(), np.array(table, np.int64))
        (partial / TABLE).write_bytes(numbers.getbuffer())
        header = {
            "version": CACHE_VERSION,
            "folder": name,
            "data_set": index.name,
            "fingerprint": index.fingerprint,
            "images": count,
            "side": side,
            "channels": index.channels,
            "bytes": written,
            "table_sha256": file_sha256(partial / TABLE),
        }
        (partial / HEADER).write_text(json.dumps(header, indent=1), encoding="utf-8")
        for file_name in (TABLE, HEADER):
            _sync(partial / file_name)
        _sync(partial)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        needed = written * count // len(table) if table else side * side * index.channels * count
        said = f"{os.strerror(error.errno)}: {_full(partial.parent, needed, written)}"
        raise OSError(error.errno, said) from error


def _check_space(partial: Path, done: int, count: int, written: int) -> None:
    """Stops before the disk is full: others write there too."""
    if done < ENOUGH_TO_ESTIMATE * count:
        return
    missing = written * (count - done) // done
    if missing > shutil.disk_usage(partial).free:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _full(root: Path, needed: int, written: int) -> str:
    free = shutil.disk_usage(root).free + written  # what was written is removed again
    return (
        f"the cache needs about {needed} bytes ({needed / 2**30:.1f} GiB) in {root}, where "
        f"{free} are free: make room, or name another folder in the "
        f"environment variable {ROOT_VARIABLE}, or set data.cache to off (data sets of files)"
    )


def _sync(path: Path) -> None:
    """Brings a file or a folder's names to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
