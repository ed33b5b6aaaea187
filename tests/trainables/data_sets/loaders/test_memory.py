"""Listing an archive: once a process, without its pixels, and anew when a file has changed."""

import io
import os
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest

from tests.trainables.data_sets import trees
from trainables.data_sets import index
from trainables.data_sets.file_sets import read_index
from trainables.data_sets.loaders import cifar, idx, memory, npz
from trainables.data_sets.loaders.listing import ArrayDecoder, Item, Listing


@pytest.fixture(autouse=True)
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are taken to have settled as soon as they are written."""
    monkeypatch.setattr(memory, "SETTLED_NS", -(10**12))


def write(root: Path) -> Path:
    images = np.zeros((8, 64, 64, 3), np.uint8)
    np.savez(root / "mine.npz", images=images, labels=np.arange(8) % 2)
    return root / "mine.npz"


def write_cifar(root: Path) -> Path:
    return trees.cifar(root, train=40, test=20, classes=20)


def spoil(path: Path) -> None:
    """Changes a pixel near the end of the images, whose checksum then is wrong."""
    with zipfile.ZipFile(path) as archive:
        member = archive.getinfo("images.npy")
    with path.open("r+b") as file:
        file.seek(member.header_offset + member.compress_size - 100)
        file.write(b"\xff")


def test_listing_a_npz_reads_no_pixel(tmp_path: Path) -> None:
    spoil(write(tmp_path))
    index = read_index("npz:mine", str(tmp_path))
    assert (len(index.entries), index.channels) == (8, 3)
    with pytest.raises(ValueError, match=r"mine\.npz must be a \.npz file .*Bad CRC"):
        index.decode(index.entries[0])


def test_images_larger_than_any_memory_are_listed(tmp_path: Path) -> None:
    header = {"descr": "|u1", "fortran_order": False, "shape": (2, 2**30, 2**30)}
    np.savez(tmp_path / "mine.npz", labels=np.arange(2))
    content = io.BytesIO()
    np.lib.format.write_array_header_1_0(content, header)
    with zipfile.ZipFile(tmp_path / "mine.npz", "a") as archive:
        archive.writestr("images.npy", content.getvalue())
    listing = npz.read(tmp_path / "mine.npz", 3, None)
    assert (len(listing.items), listing.channels) == (2, 1)


@pytest.mark.parametrize(
    ("loader", "write_files"),
    [(npz, write), (cifar, write_cifar), (idx, lambda root: trees.idx(root, per_class=2))],
)
def test_an_archive_is_read_once_while_it_stays_the_same(
    loader: Any, write_files: Callable[[Path], Path], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    place = write_files(tmp_path)
    hashed = Mock(wraps=index.file_sha256)
    monkeypatch.setattr(loader, "file_sha256", hashed)
    first, again = (loader.read(place, 3, None) for _ in range(2))
    assert again.items is first.items
    assert hashed.call_count == (1 if loader is npz else 2)
    # Pixels that one caller has read stay with that caller.
    first.decode(index.Entry(first.items[0].path, 0, "train"))
    assert first.decode is not again.decode
    later = loader.read(place, 3, None)
    for listing in (again, later):
        assert isinstance(listing.decode, ArrayDecoder) and listing.decode._parts is None


@pytest.mark.parametrize("change", ["rewritten", "replaced"])
def test_a_file_of_the_same_size_and_time_is_seen(change: str, tmp_path: Path) -> None:
    folder = write_cifar(tmp_path)
    before = cifar.read(folder, 3, None)
    file = folder / "test"
    stat = file.stat()
    other = trees.cifar_batch(20, 10, seed=4)
    time.sleep(0.02)  # longer than the system's clock of files takes for a tick
    if change == "rewritten":
        file.write_bytes(other)
    else:
        (tmp_path / "new").write_bytes(other)
        (tmp_path / "new").replace(file)
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (stat.st_size, stat.st_mtime_ns)
    after = cifar.read(folder, 3, None)
    assert [after.items[-1].label, before.items[-1].label] == [9, 19]
    assert after.items[-1].content != before.items[-1].content


def test_other_arguments_are_told_apart(tmp_path: Path) -> None:
    folder = write_cifar(tmp_path)
    assert [cifar.read(folder, channels, None).channels for channels in (3, 1)] == [3, 1]


def test_a_file_that_has_just_changed_is_not_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "SETTLED_NS", 10**12)
    place = write(tmp_path)
    first, again = (npz.read(place, 3, None) for _ in range(2))
    assert first == Listing(first.items, ("0", "1"), 3, first.decode)
    assert first.items == again.items and first.items is not again.items


def test_few_listings_are_kept(tmp_path: Path) -> None:
    decoder = ArrayDecoder(npz.read_images, tmp_path)
    read = Mock(return_value=Listing((Item("a#0", 0, None, ""),), ("a",), 3, decoder))
    paths = [tmp_path / str(number) for number in range(memory.LISTINGS_KEPT + 1)]
    for path in paths:
        path.touch()
    for path in (*paths, *paths[:0:-1], paths[0]):
        memory.listed_once(read, [path], path, 3, None)
    assert [call.args[0] for call in read.call_args_list] == [*paths, paths[0]]
    memory.listed_once(read, [tmp_path / "gone"], paths[1], 3, None)
    assert read.call_args.args[0] == paths[1]
