"""Listing an archive: once a process, without its pixels, and anew when a file has changed."""

import io
import os
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.trainables.data import trees
from trainables.data import index
from trainables.data.file_sets import read_index
from trainables.data.loaders import cifar, idx, memory, npz
from trainables.data.loaders.listing import ArrayDecoder, Item, Listing


@pytest.fixture(autouse=True)
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are taken to have settled as soon as they are written."""
    monkeypatch.setattr(memory, "SETTLED_NS", -(10**12))


def write(path: Path, pixel: int = 0) -> None:
    images = np.full((8, 64, 64, 3), pixel, np.uint8)
    np.savez(path, images=images, labels=np.arange(8) % 2)


def spoil(path: Path) -> None:
    """Changes a pixel near the end of the images, whose checksum then is wrong."""
    with zipfile.ZipFile(path) as archive:
        member = archive.getinfo("images.npy")
    with path.open("r+b") as file:
        file.seek(member.header_offset + member.compress_size - 100)
        file.write(b"\xff")


def test_listing_a_npz_reads_no_pixel(tmp_path: Path) -> None:
    write(tmp_path / "mine.npz")
    spoil(tmp_path / "mine.npz")
    found = read_index("npz:mine", str(tmp_path))
    assert (len(found.entries), found.channels) == (8, 3)
    with pytest.raises(ValueError, match=r"mine\.npz must be a \.npz file .*Bad CRC"):
        found.decode(found.entries[0])


def test_images_larger_than_any_memory_are_listed(tmp_path: Path) -> None:
    header = {"descr": "|u1", "fortran_order": False, "shape": (2, 2**30, 2**30)}
    np.savez(tmp_path / "mine.npz", labels=np.arange(2))
    content = io.BytesIO()
    np.lib.format.write_array_header_1_0(content, header)
    with zipfile.ZipFile(tmp_path / "mine.npz", "a") as archive:
        archive.writestr("images.npy", content.getvalue())
    listing = npz.read(tmp_path / "mine.npz", 3, None)
    assert (len(listing.items), listing.channels) == (2, 1)


def write_npz(root: Path) -> Path:
    write(root / "mine.npz")
    return root / "mine.npz"


def write_cifar(root: Path) -> Path:
    return trees.cifar(root, train=40, test=20, classes=20)


def write_idx(root: Path) -> Path:
    return trees.idx(root, per_class=2)


@pytest.mark.parametrize(
    ("loader", "write_files"), [(npz, write_npz), (cifar, write_cifar), (idx, write_idx)]
)
def test_an_archive_is_read_once_while_it_stays_the_same(
    loader: object, write_files: Callable[[Path], Path], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    place = write_files(tmp_path)
    hashed: list[Path] = []

    def count(path: Path) -> str:
        hashed.append(path)
        return index.file_sha256(path)

    monkeypatch.setattr(loader, "file_sha256", count)
    first = loader.read(place, 3, None)  # type: ignore[attr-defined]
    files = len(hashed)
    assert files == (1 if loader is npz else 2)
    again = loader.read(place, 3, None)  # type: ignore[attr-defined]
    assert again.items is first.items
    assert len(hashed) == files
    # Pixels that one caller has read stay with that caller.
    first.decode(index.Entry(first.items[0].path, 0, "train"))
    assert first.decode is not again.decode
    later = loader.read(place, 3, None)  # type: ignore[attr-defined]
    for listing in (again, later):
        assert isinstance(listing.decode, ArrayDecoder) and listing.decode._parts is None


@pytest.mark.parametrize("change", ["rewritten", "replaced"])
def test_a_file_of_the_same_size_and_time_is_seen(change: str, tmp_path: Path) -> None:
    folder = trees.cifar(tmp_path, train=40, test=20, classes=20)
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
    folder = trees.cifar(tmp_path, train=40, test=20, classes=20)
    assert [cifar.read(folder, channels, None).channels for channels in (3, 1)] == [3, 1]


def test_a_file_that_has_just_changed_is_not_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "SETTLED_NS", 10**12)
    write(tmp_path / "mine.npz")
    first, again = (npz.read(tmp_path / "mine.npz", 3, None) for _ in range(2))
    assert first == Listing(first.items, ("0", "1"), 3, first.decode)
    assert first.items == again.items and first.items is not again.items


def test_few_listings_are_kept(tmp_path: Path) -> None:
    calls = []

    def read(path: Path, channels: int, classes: int | None) -> Listing:
        calls.append(path)
        return Listing((Item("a#0", 0, None, ""),), ("a",), 3, ArrayDecoder(npz.read_images, path))

    paths = [tmp_path / str(number) for number in range(memory.LISTINGS_KEPT + 1)]
    for path in paths:
        path.touch()
    for path in (*paths, *paths[:0:-1], paths[0]):
        memory.listed_once(read, [path], path, 3, None)
    assert calls == [*paths, paths[0]]
    memory.listed_once(read, [tmp_path / "gone"], paths[1], 3, None)
    assert calls[-1] == paths[1]
