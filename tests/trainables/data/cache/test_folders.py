"""Caches over time: files that change behind them, and the removal of those that nobody opens."""

import dataclasses
import errno
import fcntl
import itertools
import logging
import multiprocessing
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.trainables.data.cache.test_cache import ROOT, SIDE, folders, index_of, same
from trainables.data.cache import cache
from trainables.data.cache import folders as cache_folders
from trainables.data.cache.cache import cached_images, prepare_cache
from trainables.data.cache.folders import UNUSED_DAYS, locked, remove_unused
from trainables.data_sets.index import Entry, ImageIndex

OTHER = Image.fromarray(np.full((20, 30, 3), 9, np.uint8))


def age(folder: Path, days: float) -> None:
    """Makes a folder and its files look as if nothing had touched them for so long."""
    then = time.time() - days * cache_folders.DAY
    for path in (*folder.iterdir(), folder):
        os.utime(path, (then, then))


def lock_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")


def test_a_file_replaced_unnoticed_is_found_by_preparing(
    root: Path, index: ImageIndex, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    prepare_cache(index, SIDE)
    prepare_cache(index, SIDE)
    assert (tmp_path / "decoded").stat().st_size == 30  # not again where nothing changed
    file = tmp_path / "data" / "7.png"
    OTHER.save(file)
    # The same fingerprint: trials cannot know.
    assert not same(cached_images(index, SIDE), index)
    assert caplog.text == ""
    assert same(prepare_cache(index, SIDE), index)
    assert f"{file} must be the file that was decoded into the cache" in caplog.text
    assert same(cached_images(index, SIDE), index)


def test_a_file_replaced_while_it_is_decoded_is_found_by_preparing(
    root: Path, tmp_path: Path
) -> None:
    index = index_of(tmp_path / "data", 10)

    def decode(entry: Entry) -> NDArray[np.uint8]:
        pixels = index.decode(entry)
        if entry.path == "7.png":
            OTHER.save(tmp_path / "data" / "7.png")
        return pixels

    assert not same(cached_images(dataclasses.replace(index, decode=decode), SIDE), index)
    assert same(prepare_cache(index, SIDE), index)


def test_rows_of_archives_have_no_file_of_their_own(root: Path, tmp_path: Path) -> None:
    pixels = np.zeros((4, 4, 3), np.uint8)
    rows = tuple(Entry(f"train#{row}", 0, "train") for row in range(3))
    index = ImageIndex("set", tmp_path / "x", rows, ("class",), 3, lambda _: pixels, "a")
    images = prepare_cache(index, SIDE)
    assert images.file_marks.tolist() == [0, 0, 0]


def test_a_file_that_is_gone_is_named(root: Path, index: ImageIndex) -> None:
    (index.root / "3.png").unlink()
    with pytest.raises(ValueError, match=r"3\.png must be a file that can be read"):
        cached_images(index, SIDE)


def test_what_nobody_opened_for_long_is_removed(root: Path, index: ImageIndex) -> None:
    assert remove_unused(root) == []
    assert not root.exists()
    old, recent = (cached_images(index, side).folder for side in (SIDE, SIDE + 1))
    size = sum(path.stat().st_size for path in old.iterdir()) / 2**20
    age(old, UNUSED_DAYS + 3)
    age(recent, UNUSED_DAYS - 3)
    assert remove_unused(root) == [f"removed {old}: {size:.1f} MiB, unused for 33 days"]
    assert sorted(root.iterdir()) == [recent, lock_of(recent)]
    # Opening keeps it.
    age(recent, UNUSED_DAYS + 3)
    cached_images(index, SIDE + 1)
    assert remove_unused(root) == []
    assert folders(root) == [recent]
    assert same(cached_images(index, SIDE), index)


def test_a_cache_that_cannot_be_marked_is_read_all_the_same(
    root: Path, index: ImageIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached_images(index, SIDE)
    refuse = Mock(side_effect=OSError(errno.EROFS, os.strerror(errno.EROFS)))
    monkeypatch.setattr(cache_folders.os, "utime", refuse)
    monkeypatch.setattr(cache, "packed_chunks", None)  # and it is not built again
    assert same(cached_images(index, SIDE), index)


def test_half_written_caches_and_locks_of_nothing_are_removed(
    root: Path, index: ImageIndex
) -> None:
    folder = cached_images(index, SIDE).folder
    partials = [folder.with_name(f"{folder.name}.partial-{pid}") for pid in (1, 2)]
    for partial in partials:
        partial.mkdir()
        (partial / cache_folders.IMAGES).write_bytes(b"half")
    age(partials[0], UNUSED_DAYS + 1)
    nothing = root / f"gone-{'0' * 24}.lock"
    nothing.touch()
    (line,) = remove_unused(root)
    assert line.startswith(f"removed {partials[0]}: 0.0 MiB")
    assert sorted(root.iterdir()) == sorted([folder, partials[1], lock_of(folder)])


def test_what_is_locked_is_never_removed(root: Path, index: ImageIndex) -> None:
    folder = cached_images(index, SIDE).folder
    age(folder, UNUSED_DAYS + 3)
    with lock_of(folder).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert remove_unused(root) == []
        assert folder.is_dir() and lock_of(folder).exists()
    assert len(remove_unused(root)) == 1


def test_other_files_below_the_root_are_never_removed(root: Path, index: ImageIndex) -> None:
    key = "0123456789abcdef01234567"
    names = ("manifests", "model", f"model-{key}", f"other-{key}", f"model-{key}.partial-3")
    for name in names:
        (root / name).mkdir(parents=True)
        (root / name / "results.txt").write_text("years of work", encoding="utf-8")
        age(root / name, 10 * UNUSED_DAYS)
    (root / f"link-{key}").symlink_to(index.root)
    assert remove_unused(root) == []
    assert sorted(path.name for path in root.iterdir()) == sorted([*names, f"link-{key}"])


def test_a_cache_that_may_not_be_removed_is_passed_over(
    root: Path,
    index: ImageIndex,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    age(cached_images(index, SIDE).folder, UNUSED_DAYS + 3)
    refuse = Mock(side_effect=PermissionError(errno.EACCES, "Permission denied"))
    monkeypatch.setattr(cache_folders.shutil, "rmtree", refuse)
    assert remove_unused(root) == []
    assert "cannot be removed: [Errno 13] Permission denied" in caplog.text


def test_whoever_waited_for_a_removed_lock_locks_the_new_one(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    code = (
        "import sys, pathlib; from trainables.data.cache.folders import locked\n"
        "print('waiting', flush=True)\n"
        "with locked(pathlib.Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(folder)]
    pipe = subprocess.PIPE
    with locked(folder):
        waiting = subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True)
        assert waiting.stdout is not None and waiting.stdout.readline() == "waiting\n"
        time.sleep(0.2)  # it tries every 0.05 s
        lock_of(folder).unlink()
    try:
        assert waiting.stdout.readline() == "held\n"
        with locked(folder, wait=False) as held:
            assert not held
    finally:
        waiting.kill()
        waiting.communicate()
    with locked(folder, wait=False) as held:
        assert held


def remove_until(root: str, stop: str) -> None:
    """What another process runs."""
    while not Path(stop).exists():
        remove_unused(Path(root))


@pytest.mark.process
def test_opening_and_removing_at_once_never_breaks_a_reader(
    root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    index, stop = index_of(tmp_path / "data", 10), tmp_path / "stop"
    caplog.set_level(logging.INFO)
    context = multiprocessing.get_context("spawn")
    remover = context.Process(target=remove_until, args=(str(root), str(stop)))
    remover.start()
    try:
        end = time.monotonic() + 20
        # So that the two meet at different points.
        pauses = itertools.cycle((0.0, 0.001, 0.002, 0.005))
        while caplog.text.count("decoding 10 images") < 10:
            assert time.monotonic() < end, "it was not removed"
            images = cached_images(index, SIDE)
            assert same(images, index)
            # It may be gone already: the other process saw its age just before it was opened.
            with suppress(FileNotFoundError):
                age(images.folder, UNUSED_DAYS + 3)
            time.sleep(next(pauses))
    finally:
        stop.touch()
        remover.join(30)
    assert remover.exitcode == 0
