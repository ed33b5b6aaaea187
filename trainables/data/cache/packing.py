"""Decodes and shrinks the images of an index in worker processes that never import torch.

`python -m trainables.data.cache.packing` is one worker. These are plain child processes rather than
those of `multiprocessing`, which import the caller's main module again: that may bring torch, or
start everything over where a script has no guard. A worker ends when its input does, so that
none outlives a caller that is killed.
"""

import hashlib
import os
import pickle
import subprocess
import sys
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

from trainables.data.cache.decoding import Pixels, fit, is_archived, read_image
from trainables.data_sets.index import Entry, ImageIndex, file_crc32

CHUNK = 64  # images a job
# Below, starting processes costs more than they save.
WORTH_PROCESSES = 256
CHUNKS_AHEAD = 4  # a worker, so that a slow disk does not fill the memory

# Height, width and channels of one image, CRC-32 of its pixels and of its file (archives: 0), and
# the mark of its pixels before they were shrunk.
Place = tuple[int, int, int, int, int, int]
Chunk = tuple[bytes, list[Place]]
# Decoder, side, whether bicubic, channels, and the folder of the files (archives: none).
Setup = tuple[Callable[[Entry], Pixels], int, bool, int, Path | None]


def packed_chunks(index: ImageIndex, side: int, workers: int | None = None) -> Iterator[Chunk]:
    """The pixels of all images in order, some at a time, with their places.

    `workers` is the number of processes (None: the processors this process may use). ValueError
    naming the file, if an image is corrupt.
    """
    count = len(os.sched_getaffinity(0)) if workers is None else workers
    entries, archived = index.entries, is_archived(index)
    folder = None if archived else index.root
    setup = (index.decode, side, index.bicubic, index.channels, folder)
    jobs = (entries[start : start + CHUNK] for start in range(0, len(entries), CHUNK))
    if count < 2 or len(entries) < WORTH_PROCESSES or archived:
        for job in jobs:
            yield _pack(setup, job)
        return
    started = [_Worker(setup) for _ in range(count)]
    try:
        yield from _in_order(started, jobs)
    finally:
        for worker in started:
            worker.stop()


class _Worker:
    """A child process that takes entries and gives chunks, one job at a time."""

    def __init__(self, setup: Setup) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "trainables.data.cache.packing"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # Whatever this process imports from, the worker must import the same.
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        self._setup = setup

    def pack(self, entries: tuple[Entry, ...]) -> Chunk:
        """Decodes some entries; RuntimeError if the process has died."""
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            pickle.dump((self._setup, entries), self._process.stdin)
            self._process.stdin.flush()
            answer: Chunk | ValueError | OSError = pickle.load(self._process.stdout)
        except (EOFError, BrokenPipeError, pickle.UnpicklingError) as error:
            raise RuntimeError(
                f"a process that decodes images must not end before its work does, but one did "
                f"between {entries[0].path} and {entries[-1].path}: see its error output, or "
                f"whether memory ran out."
            ) from error
        if isinstance(answer, ValueError | OSError):
            raise answer
        return answer

    def stop(self) -> None:
        """Ends the process, in the middle of its work if need be."""
        self._process.kill()
        self._process.communicate()


def _in_order(started: list[_Worker], jobs: Iterator[tuple[Entry, ...]]) -> Iterator[Chunk]:
    """Gives jobs to whichever worker is free, a thread waiting for each."""
    free: SimpleQueue[_Worker] = SimpleQueue()
    for worker in started:
        free.put(worker)

    def run(job: tuple[Entry, ...]) -> Chunk:
        worker = free.get()
        try:
            return worker.pack(job)
        finally:
            free.put(worker)

    ahead: deque[Future[Chunk]] = deque()
    pool = ThreadPoolExecutor(len(started))
    try:
        for job in jobs:
            ahead.append(pool.submit(run, job))
            if len(ahead) > CHUNKS_AHEAD * len(started):
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _pack(setup: Setup, entries: tuple[Entry, ...]) -> Chunk:
    decode, side, bicubic, channels, folder = setup
    # Before they are decoded: a file that is replaced in between differs the next time.
    marks = [0 if folder is None else file_crc32(folder / entry.path) for entry in entries]
    contents, places = [], []
    for entry, mark in zip(entries, marks, strict=True):
        decoded = read_image(decode, entry, channels)
        image = fit(decoded, side, bicubic)
        content = image.tobytes()
        height, width, depth = image.shape
        checksum = zlib.crc32(content)
        places.append((height, width, depth, checksum, mark, pixel_mark(decoded)))
        contents.append(content)
    return b"".join(contents), places


def pixel_mark(image: Pixels) -> int:
    """A signed number of 64 bits that images with the same pixels share, and hardly any others."""
    digest = hashlib.blake2b(str(image.shape).encode(), digest_size=8)
    digest.update(image.data)
    return int.from_bytes(digest.digest(), "big", signed=True)


def _work() -> None:
    """What a worker does: reads jobs and writes chunks, until its input ends."""
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    while True:
        try:
            setup, entries = pickle.load(source)
        except EOFError:
            return
        answer: Chunk | ValueError | OSError
        try:
            answer = _pack(setup, entries)
        except (ValueError, OSError) as error:
            answer = error
        pickle.dump(answer, sink)
        sink.flush()


if __name__ == "__main__":
    _work()
