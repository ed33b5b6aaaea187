"""Ledgers of version 1 are read with the numbers that the release which wrote them gave.

`data/version1.jsonl` is a part of the default study at commit 7788856: sequential fine-tuning in
10 tasks with all its confirmations, of searches and another cell some records. The numbers here
are those of its report at that commit.
"""

import json
import shutil
from pathlib import Path

import pytest

from study import run
from study.analysis.summary import summarise
from study.ledger import read_study, version1
from study.ledger.labels import range_text
from tests.study.tracking.fake_store import Driver, FakeStore
from tests.study.tracking.mlflow_server import counted, expected

OLD = Path(__file__).parent / "data" / "version1.jsonl"
SEQUENTIAL, INFLORA = "method.name=sequential,data.tasks=10", "method.name=inflora,data.tasks=10"
FINALS = {0: 0.7266666666666667, 1: 0.7233333333333334, 2: 0.76}
WORDS = {
    "method.rank": "2 to 16 (log)",
    "method.epsilon": "0.8 to 0.99",
    "optim.lr": "0.0003 to 0.01 (log)",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of a study with the old ledger."""
    (tmp_path / "old").mkdir()
    shutil.copy(OLD, tmp_path / "old" / "ledger.jsonl")
    return tmp_path / "old"


def test_its_numbers_are_those_of_the_release_that_wrote_it() -> None:
    study = read_study(OLD)
    cell = next(cell for cell in summarise(study) if cell.cell == SEQUENTIAL)
    assert cell.finals == FINALS
    assert (cell.final.mean, cell.final.low, cell.final.high) == pytest.approx(
        (0.7366666666666667, 0.6862986006895478, 0.7870347326437855), rel=1e-12
    )
    assert cell.forgetting.mean == pytest.approx(0.059259259259259255, rel=1e-12)
    assert cell.setting == {"optim.lr": 1.1456072987490783e-05}
    assert (study.status, study.wall_seconds) == ("complete", 345.716736213)
    trials = [*study.searches(SEQUENTIAL), *study.confirmations(SEQUENTIAL)]
    ends = {(trial.status, trial.planned, trial.retries) for trial in trials}
    assert ends == {("completed", 10, 0)}
    assert [trial.seconds for trial in trials] == pytest.approx(
        [7.799, 7.608, 8.245, 10.817, 10.969, 10.968], abs=1e-3
    )
    assert [trial.compute_seconds for trial in trials[3:]] == pytest.approx(
        [10.010911017999547, 10.17912462299978, 10.224348350000014], rel=1e-12
    )
    assert study.places == ("node (cpu)",)
    (searched,) = (record.search for record in study.cells if record.cell == INFLORA)
    assert {key: range_text(entry) for key, entry in searched.items()} == WORDS


@pytest.mark.parametrize(
    "text",
    [
        "2 to 16",
        "1e-05 to 0.01 (log)",
        "0.5 to 0.9 in steps of 0.1",
        "one of cosine, constant",
        "one of 4",
        "0.8 to 0.99 when method.energy is sigma2",
        "one of 1, 2 when method.energy is sigma2 or sigma4 and method.dual is True",
    ],
)
def test_ranges_in_words_say_the_same_once_they_are_distributions(text: str) -> None:
    cell = {"kind": "cell", "cell": "c", "key": {}, "fixed": {"data.tasks": 3}}
    record = version1.upgraded({**cell, "search": {"key": text}})
    assert range_text(record["search"]["key"]) == text
    assert (record["tasks"], record["search_tasks"], record["tuned_in"]) == (3, 3, None)


@pytest.mark.slow
def test_it_is_reported_and_compared(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(["--report", str(folder)]) == 0
    report = json.loads((folder / "report" / "report.json").read_text(encoding="utf-8"))
    cell = next(cell for cell in report["cells"] if cell["cell"] == SEQUENTIAL)
    assert cell["finals_by_seed"] == {str(seed): value for seed, value in FINALS.items()}
    assert cell["search_trials"] == {"completed": 3}
    assert cell["wall_seconds"] == pytest.approx(56.4060001373291)
    assert (folder / "ledger.jsonl").read_bytes() == OLD.read_bytes()
    shutil.copytree(folder, folder.parent / "again")
    assert run.main(["--compare", str(folder), str(folder.parent / "again")]) == 0
    out = capsys.readouterr().out
    assert "What differs: nothing" in out and out.count("73.7 ± 5.0") == 2


def test_its_runs_say_what_was_searched(tmp_path: Path) -> None:
    store = FakeStore()
    writer = Driver(store).writer(OLD)
    assert writer.catch_up() and writer.problem is None
    params = store.params["inflora · 10 tasks"]
    assert {key: params[f"range/{key}"] for key in WORDS} == WORDS
    assert store.tags["sequential · 10 tasks"]["confirmed_seeds"] == 3


@pytest.mark.slow
def test_it_is_replayed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = [json.loads(line) for line in OLD.read_text(encoding="utf-8").splitlines()]
    # Its models were not copied.
    lines = [json.dumps(record) + "\n" for record in records if record["kind"] != "model"]
    (folder / "ledger.jsonl").write_text("".join(lines), encoding="utf-8")
    assert run.main(["--replay", str(folder)]) == 0
    assert f"{len(lines)} records of {folder} are in sqlite" in capsys.readouterr().out
    assert counted(folder / "mlflow.db") == expected(records)


def test_it_is_not_gone_on_with(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(["--resume", str(folder), "--set", "trials=5"]) == 2
    assert capsys.readouterr() == (
        f"Study: {folder}\n",
        f"error: {folder / 'ledger.jsonl'} must be of version 2 to be gone on with, but it is of "
        f"version 1: go on with the release of this project that wrote it; --report, --replay and "
        f"--compare read it.\n",
    )
    assert (folder / "ledger.jsonl").read_bytes() == OLD.read_bytes()
