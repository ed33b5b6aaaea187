"""Which checkpoints are kept, and which can be gone on from."""

from collections.abc import Callable
from pathlib import Path

import pytest

from study.engine.checkpoints import Checkpoints, session_folder
from study.ledger import Journal, Record, StudyFolder, history_of, records
from tests.study.histories import checkpoint_in, facts, journal_of, timed


def begun(*more: Record) -> list[Record]:
    """A study with one search trial, and what has become of it."""
    params = {"method.name": "inflora", "seed": 0}
    return timed(
        [
            records.study("small", "?", facts({})),
            records.cell("c", {}, {}, {}, 4, 4, [0]),
            records.trial("t", "c", "search", params, {}, 0, 4),
            *more,
        ]
    )


def test_it_is_where_a_trial_goes_on(tmp_path: Path) -> None:
    journal = journal_of([], begun())
    checkpoints = Checkpoints(StudyFolder(tmp_path), journal)
    assert checkpoints.start_of("t") == (None, 0, None)
    path = checkpoint_in(tmp_path / "ray" / "session-1" / "t")
    checkpoints.safe("t", 2, path.parent)
    assert checkpoints.start_of("t") == (path.parent, 2, None)
    files = {"trainer.pt": path.stat().st_size}
    expected = (2, "ray/session-1/t/checkpoint_000000", files)
    noted = journal.history.trials["t"].checkpoint
    assert noted is not None and noted[:3] == expected


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda whole: None, "cannot be read"),
        (lambda whole: whole[:100], "has 100 bytes and not"),
        (lambda whole: whole.replace(b"weights", b"weighty", 1), "is damaged"),
    ],
)
def test_a_broken_checkpoint_is_not_used_and_named(
    tmp_path: Path, damage: Callable[[bytes], bytes | None], said: str
) -> None:
    checkpoints = Checkpoints(StudyFolder(tmp_path), journal_of([], begun()))
    path = checkpoint_in(tmp_path / "ray" / "session-1" / "t")
    checkpoints.safe("t", 1, path.parent)
    left = damage(path.read_bytes())
    path.unlink()
    if left is not None:
        path.write_bytes(left)
    folder, task, problem = checkpoints.start_of("t")
    assert (folder, task) == (None, 0)
    assert problem is not None and said in problem and str(path) in problem


def test_the_older_one_goes_only_when_the_newer_one_is_recorded(tmp_path: Path) -> None:
    paths = [checkpoint_in(tmp_path / "ray" / f"session-{number}" / "t") for number in (1, 2)]
    there = []

    def write(record: Record) -> Record:
        there.append(paths[0].exists())
        return {**record, "time": 9e6}

    checkpoints = Checkpoints(StudyFolder(tmp_path), Journal(write, history_of(begun())))
    checkpoints.safe("t", 1, paths[0].parent)
    checkpoints.safe("t", 2, paths[1].parent)
    assert there == [True, True]
    assert [path.exists() for path in paths] == [False, True]


def test_a_sweep_leaves_what_is_needed_alone(tmp_path: Path) -> None:
    needed = "ray/session-1/t/checkpoint_000002"
    for place in ("session-1/t/checkpoint_000001", "session-1/b/checkpoint_000000", "session-2/c"):
        (tmp_path / "ray" / place).mkdir(parents=True)
    (tmp_path / needed).mkdir()
    journal = journal_of([], begun(records.checkpoint("t", 3, needed, {})))
    Checkpoints(StudyFolder(tmp_path), journal).sweep()
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")}
    assert left == {"ray", "ray/session-1", "ray/session-1/t", needed}
    # Of a search trial that has ended none is.
    ended = begun(records.checkpoint("t", 3, needed, {}), records.end("t", "pruned"))
    Checkpoints(StudyFolder(tmp_path), journal_of([], ended)).sweep()
    assert list(tmp_path.rglob("*")) == [tmp_path / "ray"]


def test_no_session_uses_the_folder_of_another(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    (folder.sessions / "session-2").mkdir(parents=True)
    assert session_folder(folder, 1).name == "session-1"
    assert session_folder(folder, 2).name == "session-3"
