import errno
import json
import multiprocessing
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from trainables.data.cache import cache, packing
from trainables.data.cache.cache import PackedImages, cached_images, prepare_cache
from trainables.data.cache.decoding import DecodedImages, fit, stored_side
from trainables.data_sets.index import Entry, ImageIndex

ROOT = Path(__file__).parents[4]
SIDE = 16


class Files:
    """Reads PNG files; waits before each one, so that a test can come in between, and counts."""

    def __init__(self, folder: Path, wait: float = 0.0) -> None:
        self.folder, self.wait = folder, wait

    def __call__(self, entry: Entry) -> NDArray[np.uint8]:
        time.sleep(self.wait)
        with self.folder.with_name("decoded").open("a") as count:
            count.write(".")
        return np.asarray(Image.open(self.folder / entry.path))


def index_of(folder: Path, count: int, wait: float = 0.0, fingerprint: str = "a") -> ImageIndex:
    """An index of `count` entries over ten colour images of three sizes."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    for number in range(10):
        size = ((20, 30), (48, 24), (12, 9))[number % 3]
        path = folder / f"{number}.png"
        if not path.exists():
            Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)
    entries = tuple(Entry(f"{number % 10}.png", 0, "train") for number in range(count))
    return ImageIndex(
        "few images", folder, entries, ("class",), 3, Files(folder, wait), fingerprint
    )


def build(folder: str, count: int, wait: float) -> None:
    """What other processes run."""
    cached_images(index_of(Path(folder), count, wait), SIDE)


def folders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir())


def same(images: PackedImages, index: ImageIndex) -> bool:
    decoded = DecodedImages(index, SIDE)
    return len(images) == len(decoded) and all(
        np.array_equal(images[row], fit(decoded[row], SIDE)) for row in range(len(decoded))
    )


def test_a_cache_holds_what_decoding_gives_and_is_built_once(
    root: Path, index: ImageIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = cached_images(index, SIDE)
    assert same(first, index)
    assert [folder.parent for folder in folders(root)] == [root]
    # Images keep their aspect and are never enlarged.
    assert [first[row].shape for row in range(3)] == [(16, 24, 3), (32, 16, 3), (12, 9, 3)]
    assert first.nbytes == sum(first[row].nbytes for row in range(len(first)))
    monkeypatch.setattr(cache, "packed_chunks", None)
    assert same(cached_images(index, SIDE), index)


@pytest.mark.process
def test_worker_processes_give_the_same_bytes(tmp_path: Path) -> None:
    index = index_of(tmp_path / "data", packing.WORTH_PROCESSES)
    alone, together = (list(packing.packed_chunks(index, SIDE, workers)) for workers in (1, 2))
    assert alone == together


@pytest.mark.process
def test_a_script_without_a_guard_may_build_with_workers(root: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    index = index_of(data, packing.WORTH_PROCESSES)
    script = tmp_path / "script.py"
    script.write_text(
        f"from tests.trainables.data.cache.test_cache import build\n"
        f"build({str(data)!r}, {packing.WORTH_PROCESSES}, 0)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    assert subprocess.run([sys.executable, script], env=environment, check=False).returncode == 0
    assert same(cached_images(index, SIDE), index)


@pytest.mark.process
@pytest.mark.parametrize("kill", [False, True])
def test_a_worker_hands_its_errors_on(
    tmp_path: Path, kill: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = index_of(tmp_path / "data", packing.WORTH_PROCESSES)
    if kill:
        monkeypatch.setattr(packing.sys, "executable", "/bin/true")
        with pytest.raises(RuntimeError, match="must not end before its work does"):
            list(packing.packed_chunks(index, SIDE, 2))
    else:
        (tmp_path / "data" / "7.png").write_bytes(b"torn")
        with pytest.raises(OSError, match="cannot identify image file"):
            list(packing.packed_chunks(index, SIDE, 2))


@pytest.mark.process
def test_decoding_never_imports_torch() -> None:
    code = "import sys, trainables.data.cache.cache; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


@pytest.mark.process
def test_processes_that_start_together_end_with_one_cache(root: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    index = index_of(data, 20)
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=build, args=(str(data), 20, 0.01)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert len(folders(root)) == 1
    assert (tmp_path / "decoded").stat().st_size == 20  # each image by one of them
    assert same(cached_images(index, SIDE), index)


@pytest.mark.process
@pytest.mark.parametrize("count", [20, packing.WORTH_PROCESSES])
def test_nothing_of_a_killed_process_is_trusted_or_left(
    root: Path, tmp_path: Path, count: int
) -> None:
    data = tmp_path / "data"
    index = index_of(data, count)
    code = "from tests.trainables.data.cache.test_cache import build; build({!r}, {}, 0.02)"
    command = [sys.executable, "-c", code.format(str(data), count)]
    process = subprocess.Popen(command, cwd=ROOT, start_new_session=True)
    try:
        wait_for(lambda: root.exists() and bool(folders(root)))
        if count >= packing.WORTH_PROCESSES:
            wait_for(lambda: len(processes(process.pid)) > 1)
        process.send_signal(signal.SIGKILL)
        process.wait(10)
        assert [path.name.count(".partial-") for path in folders(root)] == [1]
        wait_for(lambda: not processes(process.pid))  # its workers do not outlive it
        assert same(cached_images(index, SIDE), index)
        assert [path.name.count(".partial-") for path in folders(root)] == [0]
    finally:
        for pid in processes(process.pid):
            os.kill(pid, signal.SIGKILL)


def processes(session: int) -> list[int]:
    """Living processes of a session."""
    pids = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            pids.append(int(path.parent.name))
    return pids


def wait_for(condition: object, seconds: float = 20.0) -> None:
    assert callable(condition)
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.02)


def test_other_data_other_sides_and_other_versions_have_caches_of_their_own(
    root: Path, index: ImageIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached_images(index, SIDE)
    cached_images(index, SIDE + 1)
    cached_images(index_of(tmp_path / "data", 30, fingerprint="b"), SIDE)
    monkeypatch.setattr(cache, "CACHE_VERSION", cache.CACHE_VERSION + 1)
    assert same(cached_images(index, SIDE), index)
    assert len(folders(root)) == 4


@pytest.mark.parametrize("damage", ["version", "short", "table", "header", "no header", "renamed"])
def test_what_is_not_whole_is_built_again(root: Path, index: ImageIndex, damage: str) -> None:
    folder = cached_images(index, SIDE).folder
    header = folder / cache.HEADER
    if damage == "version":
        header.write_text(json.dumps({**json.loads(header.read_text()), "version": 0}))
    elif damage == "short":
        with (folder / cache.IMAGES).open("r+b") as file:
            file.truncate(100)
    elif damage == "table":
        np.save(folder / cache.TABLE, np.load(folder / cache.TABLE)[::-1])
    elif damage == "header":
        header.write_text(header.read_text()[:20])
    elif damage == "no header":
        header.unlink()
    else:
        other = cached_images(index, SIDE + 1).folder
        shutil.rmtree(folder)
        shutil.copytree(other, folder)
    assert same(cached_images(index, SIDE), index)


def test_changed_pixels_are_refused_when_read_and_repaired_by_preparing(
    root: Path, index: ImageIndex
) -> None:
    folder = cached_images(index, SIDE).folder
    pixels = np.memmap(folder / cache.IMAGES, np.uint8, "r+")
    pixels[5] ^= 255
    pixels.flush()
    images = cached_images(index, SIDE)
    assert np.array_equal(images[1], fit(DecodedImages(index, SIDE)[1], SIDE))
    with pytest.raises(ValueError, match=r"image 0 of the cache .* must have the checksum"):
        images[0]
    assert same(prepare_cache(index, SIDE), index)
    assert same(cached_images(index, SIDE), index)


@pytest.mark.parametrize("full", ["while writing", "soon"])
def test_a_full_disk_says_where_and_how_much(
    root: Path, index: ImageIndex, monkeypatch: pytest.MonkeyPatch, full: str
) -> None:
    needed = cached_images(index, SIDE).nbytes
    shutil.rmtree(root)
    if full == "soon":
        none_free = shutil.disk_usage(root.parent)._replace(free=0)
        monkeypatch.setattr(cache.shutil, "disk_usage", lambda _: none_free)
        monkeypatch.setattr(packing, "CHUNK", 10)
    else:
        no_space = OSError(errno.ENOSPC, "No space left on device")
        monkeypatch.setattr(cache, "file_sha256", Mock(side_effect=no_space))
    with pytest.raises(OSError, match=rf"needs about \d+ bytes .* in {root}") as caught:
        cached_images(index, SIDE)
    assert caught.value.errno == errno.ENOSPC and "No space left on device: " in str(caught.value)
    estimate = int(str(caught.value).split("needs about ")[1].split()[0])
    assert estimate == pytest.approx(needed, rel=0.05)
    assert folders(root) == []


def test_a_table_that_does_not_fit_is_an_error_of_the_system(
    root: Path, index: ImageIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its number a study knows that no other trial would fare better."""
    before, sync = resource.getrlimit(resource.RLIMIT_FSIZE), os.fsync
    chunks = cache.packed_chunks

    def repeated(index: ImageIndex, side: int) -> Iterator[Any]:
        # A table of some pages, as that of a real data set.
        return ((content, list(places) * 99) for content, places in chunks(index, side))

    def limited(descriptor: int) -> None:
        # Of the images, which are whole by now; what numpy writes first of a table still fits.
        sync(descriptor)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200, before[1]))

    monkeypatch.setattr(cache, "packed_chunks", repeated)
    monkeypatch.setattr(os, "fsync", limited)
    try:
        with pytest.raises(OSError) as caught:
            cached_images(index, SIDE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.errno == errno.EFBIG
    assert folders(root) == []


def test_a_corrupt_image_is_named_and_nothing_is_left(root: Path, index: ImageIndex) -> None:
    Image.fromarray(np.zeros((4, 4), np.uint8)).convert("RGBA").save(index.root / "7.png")
    with pytest.raises(ValueError, match=r"must have 3 channel.* 7\.png has 4"):
        cached_images(index, SIDE)
    assert folders(root) == []


def test_a_cache_never_lies_inside_of_the_data(
    index: ImageIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(cache.ROOT_VARIABLE, str(index.root / "deep" / "cache"))
    with pytest.raises(ValueError, match="must not lie inside of the data's folder"):
        cached_images(index, SIDE)


def test_files_have_the_published_margin_and_archives_none(index: ImageIndex) -> None:
    assert stored_side(index, 224) == 256
    rows = tuple(Entry(f"train#{row}", 0, "train") for row in range(3))
    archive = ImageIndex("cifar100", index.root, rows, ("class",), 3, index.decode, "a")
    assert stored_side(archive, 224) == 224


def test_shrinking_is_the_resize_of_torchvision() -> None:
    from trainables.backbones import timm_compat  # first, where torch has no CUDA

    assert timm_compat
    from torchvision.transforms.functional import resize

    rng = np.random.default_rng(1)
    for shape in ((75, 50, 3), (33, 91, 3), (64, 64, 1)):
        image = rng.integers(0, 256, shape, dtype=np.uint8)
        expected = resize(Image.fromarray(image.squeeze()), 32)
        assert np.array_equal(fit(image, 32).squeeze(), np.asarray(expected))
