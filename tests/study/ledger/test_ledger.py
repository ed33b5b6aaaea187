"""A ledger on disk, whatever happens to its process and its disk."""

import errno
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from study.ledger import (
    Ledger,
    Record,
    StudyFolder,
    is_full,
    read_ledger,
    records,
    storage_error,
    whole_lines,
)
from study.ledger.ledger import has_checksum
from study.ledger.records import VERSION
from tests.study.histories import facts

PROJECT = Path(__file__).parents[3]
STUDY = {**records.study("größe", "?", facts({})), "time": 5.0}
LINE = json.dumps(STUDY).encode() + b"\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.jsonl"


def task(number: int) -> Record:
    return records.task("x", number, {"test/accuracy": 0.5}, (0.5, 0.25))


def kinds_in(path: Path) -> list[str]:
    return [record["kind"] for record in read_ledger(path)]


def test_what_is_appended_is_read_back_in_order_and_can_be_continued(tmp_path: Path) -> None:
    path = tmp_path / "new" / "ledger.jsonl"
    ledger = Ledger(path)
    ledger.append(STUDY)
    written = ledger.append(task(1))
    ledger.close()
    Ledger(path).append(task(2))
    first, second, third = read_ledger(path)
    assert (first, second, third["task"]) == (STUDY, written, 2)
    assert second["accuracy_row"] == [0.5, 0.25]
    assert second["time"] > 1e9
    with pytest.raises(FileNotFoundError):
        read_ledger(tmp_path / "absent.jsonl")


def test_numbers_that_json_lacks_become_null(path: Path) -> None:
    row = [-math.inf, np.float32(0.5)]
    record: Record = {"kind": "task", "a": math.nan, "b": row, "c": np.int64(3)}
    Ledger(path).append(record)
    (read,) = read_ledger(path)
    assert (read["a"], read["b"], read["c"]) == (None, [None, 0.5], 3)
    assert math.isnan(record["a"]), "the caller's record stays as it was"


# The last is a line that parses, but for its end.
@pytest.mark.parametrize("kept", [*range(1, 40, 3), 54])
def test_a_torn_last_line_is_ignored_and_cut(path: Path, kept: int) -> None:
    torn = b'{"kind": "task", "task": 12, "time": 2, "metrics": {}}'
    path.write_bytes(LINE + torn[:kept])
    assert len(read_ledger(path)) == 1
    ledger = Ledger(path)
    assert path.read_bytes() == LINE
    ledger.append(task(1))
    assert kinds_in(path) == ["study", "task"]


def test_what_was_read_already_is_not_read_again(path: Path) -> None:
    path.write_bytes(LINE + b"no record\n")
    Ledger(path, whole=len(LINE)).append(task(1))
    assert kinds_in(path) == ["study", "task"]


@pytest.mark.parametrize("line", ["{broken", "[1]", '{"no": "kind"}', ""])
def test_a_broken_line_elsewhere_names_file_and_line(path: Path, line: str) -> None:
    path.write_bytes(LINE + line.encode() + b'\n{"kind": "end"}\n')
    before = path.read_bytes()
    for read in (read_ledger, Ledger):
        with pytest.raises(ValueError, match=r"line 2 of .*ledger\.jsonl"):
            read(path)
    assert path.read_bytes() == before


def test_what_is_no_record_is_refused_and_leaves_no_trace(path: Path) -> None:
    ledger = Ledger(path)
    with pytest.raises(ValueError, match="must have a 'kind'"):
        ledger.append({"trial": "x"})
    with pytest.raises(TypeError, match="JSON's types"):
        ledger.append({**STUDY, "path": path})
    assert read_ledger(path) == []


def test_a_failed_write_leaves_the_file_as_it_was(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger(path)
    ledger.append(STUDY)

    def full_disk(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full_disk)
        with pytest.raises(OSError, match="No space"):
            ledger.append(task(1))
    ledger.append(task(2))
    assert kinds_in(path) == ["study", "task"]


def test_a_killed_writer_loses_nothing_it_had_appended(path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from study.ledger import Ledger\n"
        "ledger = Ledger(Path(sys.argv[1])); n = 0\n"
        "while True:\n"
        "    ledger.append({'kind': 'task', 'task': n, 'fill': 'x' * 5000})\n"
        "    print(n, flush=True); n += 1\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True, cwd=PROJECT
    ) as process:
        assert process.stdout is not None
        for _ in range(20):
            last = process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        rest = process.stdout.read().split()
    acknowledged = int(rest[-1]) if rest else int(last)
    tasks = [record["task"] for record in read_ledger(path)]
    assert tasks[: acknowledged + 1] == list(range(acknowledged + 1))
    assert len(tasks) <= acknowledged + 2
    Ledger(path).append(task(acknowledged + 3))
    for line in path.read_bytes().splitlines():
        json.loads(line)


def test_a_real_limit_of_a_file_leaves_whole_lines(path: Path) -> None:
    code = (
        "import resource, sys; from pathlib import Path\n"
        "from study.ledger import Ledger, is_full\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))\n"
        "ledger = Ledger(Path(sys.argv[1]))\n"
        "try:\n"
        "    while True: ledger.append({'kind': 'task', 'fill': 'x' * 300})\n"
        "except OSError as error: print(error.errno, is_full(error))\n"
    )
    command = [sys.executable, "-c", code, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=PROJECT, check=True)
    assert done.stdout == f"{errno.EFBIG} True\n"
    assert path.read_bytes().endswith(b"\n")
    assert 12 <= len(read_ledger(path)) <= 16


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE])
def test_errors_of_full_storage_are_told_from_others(tmp_path: Path, code: int) -> None:
    words = os.strerror(code)
    wrapped = RuntimeError("a trial failed")
    wrapped.__cause__ = OSError(code, words)
    text = f"Traceback (most recent call last):\n  ...\nOSError: {words}\n"
    assert all(map(is_full, (OSError(code, words), wrapped, RuntimeError(text))))
    folder = StudyFolder(tmp_path)
    said = str(storage_error(folder, text))
    assert f"be written: OSError: {words}. Free" in said
    # Nothing can be gone on with before there is a record.
    assert said.endswith(f" again, with the same --output if you like: {tmp_path} has no records")
    folder.ledger.write_text("a record\n")
    assert str(storage_error(folder, text)).endswith(f"go on with: {folder.command('--resume')}")
    for words in ("PytorchStreamWriter failed x", "[enforce fail at x] . unexpected pos 47 vs 46"):
        assert is_full(RuntimeError(words))
    for other in (OSError(errno.ENOENT, "no such file"), ValueError("rank must be 1")):
        assert not is_full(other)


def test_a_disk_that_is_full_of_files_has_no_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = "No space left on device"
    found = list(os.statvfs(tmp_path))
    # Files in all, free, free to this user.
    found[5:8] = 2000, 0, 0
    monkeypatch.setattr(os, "statvfs", lambda path: os.statvfs_result(found))
    said = str(storage_error(StudyFolder(tmp_path), full))
    assert f" GB, but no further file, in {tmp_path} (its folder)" in said

    def nowhere() -> str:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr(tempfile, "gettempdir", nowhere)
    with pytest.raises(FileNotFoundError) as caught:
        tempfile.mkdtemp()
    assert is_full(caught.value)
    assert "No usable temporary" in str(storage_error(StudyFolder(tmp_path), caught.value))


def whole(path: Path) -> bytes:
    """The bytes of a ledger of a study and a task."""
    ledger = Ledger(path)
    for record in (
        {"kind": "study", "version": VERSION, "name": "s", "time": 1.0},
        {"kind": "task", "metrics": {"test/accuracy": 0.8125}, "text": "é", "time": 2.0},
        {"kind": "future", "time": 3.0},
    ):
        ledger.append(record)
    ledger.close()
    return path.read_bytes()


def test_every_changed_byte_is_noticed(path: Path) -> None:
    content = whole(path)
    lines = content.splitlines(keepends=True)
    for at in range(len(lines[0]), len(lines[0]) + len(lines[1]) - 1):
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        with pytest.raises(ValueError, match=r"line 2 of .*Take that line from a copy"):
            read_ledger(path)


def test_a_ledger_without_checksums_is_read_and_counted(path: Path) -> None:
    bare = {"kind": "study", "version": VERSION, "name": "s", "time": 1.0}
    path.write_text(json.dumps(bare) + "\n")
    ledger = Ledger(path)
    ledger.append({"kind": "future", "time": 3.0})
    ledger.close()
    assert [has_checksum(line) for _, line in whole_lines(path)] == [False, True]
    assert read_ledger(path)[0] == bare
    # Once there are some, a line without is one that was changed.
    with path.open("a") as file:
        file.write('{"kind": "future"}\n')
    with pytest.raises(ValueError, match="line 3 of"):
        read_ledger(path)


DEEP = "[" * 1000 + "]" * 1000


@pytest.mark.parametrize(
    "entry",
    [
        f'"metrics": {DEEP}',
        '"metrics": {"a": NaN}',
        '"metrics": {"a": 1' + "0" * 5000 + "}",
        '"text": "\\ud83d"',
        '"kind": ["task"]',
    ],
)
def test_an_odd_line_is_refused_with_its_remedy(path: Path, entry: str) -> None:
    path.write_text('{"kind": "future"}\n{"kind": "task", ' + entry + "}\n")
    with pytest.raises(ValueError, match=r"line 2 of .*head -n 1 ") as error:
        read_ledger(path)
    assert len(str(error.value)) < 1000


def test_the_remedy_of_a_broken_line_works(path: Path) -> None:
    whole(path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + b"torn" + lines[1] + lines[2])
    with pytest.raises(ValueError, match="again: ") as error:
        read_ledger(path)
    subprocess.run(str(error.value).rpartition("again: ")[2], shell=True, check=True)
    assert [record["kind"] for record in read_ledger(path)] == ["study"]


@pytest.mark.parametrize("how", ["deleted", "renamed", "replaced", "folder", "parent"])
def test_a_ledger_that_is_not_at_its_place_is_lost_and_can_be_saved(
    tmp_path: Path, how: str
) -> None:
    path = tmp_path / "results" / "s-1" / "ledger.jsonl"
    ledger = Ledger(path)
    ledger.append(STUDY)
    assert not ledger.is_lost()
    if how == "deleted":
        path.unlink()
    elif how == "renamed":
        path.rename(path.with_name("x"))
    elif how == "replaced":
        path.unlink()
        path.touch()
    elif how == "folder":
        path.parent.rename(tmp_path / "moved")
    else:
        path.parents[1].rename(tmp_path / "moved")
    assert ledger.is_lost()
    ledger.append(task(1))
    ledger.save(tmp_path / "saved.jsonl")
    ledger.close()
    assert kinds_in(tmp_path / "saved.jsonl") == ["study", "task"]
