import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from study.ledger import Ledger, Record, read_ledger


def test_what_is_appended_is_read_back_in_order(tmp_path: Path) -> None:
    path = tmp_path / "new" / "ledger.jsonl"
    ledger = Ledger(path)
    ledger.append({"kind": "study", "name": "größe", "time": 5.0})
    ledger.append({"kind": "task", "metrics": {"test/accuracy": 0.5}, "accuracy_row": (0.5, 0.25)})
    ledger.close()
    first, second = read_ledger(path)
    assert first == {"kind": "study", "name": "größe", "time": 5.0}
    assert second["accuracy_row"] == [0.5, 0.25]
    assert second["time"] > 1e9


def test_a_reopened_ledger_is_continued(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    for number in range(3):
        ledger = Ledger(path)
        ledger.append({"kind": "task", "task": number})
        ledger.close()
    assert [record["task"] for record in read_ledger(path)] == [0, 1, 2]


def test_numbers_that_json_lacks_become_null(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    record: Record = {
        "kind": "task",
        "a": math.nan,
        "b": [-math.inf, np.float32(0.5)],
        "c": np.int64(3),
    }
    Ledger(path).append(record)
    (read,) = read_ledger(path)
    assert (read["a"], read["b"], read["c"]) == (None, [None, 0.5], 3)
    assert math.isnan(record["a"]), "the caller's record stays as it was"


@pytest.mark.parametrize("kept", range(1, 40, 3))
def test_a_torn_last_line_is_ignored_and_cut(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "ledger.jsonl"
    whole = b'{"kind": "study", "time": 1}\n'
    torn = b'{"kind": "task", "task": 12, "time": 2, "metrics": {}}'
    path.write_bytes(whole + torn[:kept])
    assert len(read_ledger(path)) == 1
    ledger = Ledger(path)
    assert path.read_bytes() == whole
    ledger.append({"kind": "end"})
    assert [record["kind"] for record in read_ledger(path)] == ["study", "end"]


def test_a_line_without_its_end_is_torn_even_if_it_parses(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    path.write_bytes(b'{"kind": "study"}')
    assert read_ledger(path) == []
    Ledger(path).append({"kind": "cell"})
    assert [record["kind"] for record in read_ledger(path)] == ["cell"]


@pytest.mark.parametrize("line", ["{broken", "[1]", '{"no": "kind"}', ""])
def test_a_broken_line_elsewhere_names_file_and_line(tmp_path: Path, line: str) -> None:
    path = tmp_path / "ledger.jsonl"
    path.write_text('{"kind": "study"}\n' + line + '\n{"kind": "end"}\n', encoding="utf-8")
    before = path.read_bytes()
    for read in (read_ledger, Ledger):
        with pytest.raises(ValueError, match=r"line 2 of .*ledger\.jsonl"):
            read(path)
    assert path.read_bytes() == before


def test_a_record_without_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must have a 'kind'"):
        Ledger(tmp_path / "ledger.jsonl").append({"trial": "x"})


def test_what_is_not_json_is_refused_and_leaves_no_trace(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    ledger = Ledger(path)
    with pytest.raises(TypeError, match="JSON's types"):
        ledger.append({"kind": "study", "path": tmp_path})
    assert read_ledger(path) == []


def test_a_failed_write_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ledger.jsonl"
    ledger = Ledger(path)
    ledger.append({"kind": "study"})

    def full_disk(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full_disk)
        with pytest.raises(OSError, match="No space"):
            ledger.append({"kind": "task"})
    ledger.append({"kind": "end"})
    assert [record["kind"] for record in read_ledger(path)] == ["study", "end"]


def test_a_missing_ledger_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_ledger(tmp_path / "absent.jsonl")


def test_a_killed_writer_loses_nothing_it_had_appended(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    code = (
        "import sys; from pathlib import Path; from study.ledger import Ledger\n"
        "ledger = Ledger(Path(sys.argv[1])); n = 0\n"
        "while True:\n"
        "    ledger.append({'kind': 'task', 'task': n, 'fill': 'x' * 5000})\n"
        "    print(n, flush=True); n += 1\n"
    )
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True, cwd=root
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
    Ledger(path).append({"kind": "end"})
    for line in path.read_bytes().splitlines():
        json.loads(line)
