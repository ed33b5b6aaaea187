"""`--report`: from the ledger alone, for a finished, an interrupted and a running study."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from study import run
from study.ledger import VERSION, Ledger, Record
from study.lock import held, only_one
from tests.study.analysis.ledgers import made_up_study

BLOCKED = """
import sys

class Without:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "ray", "mlflow", "timm"):
            raise ModuleNotFoundError(f"there is no {name} here")

sys.meta_path.insert(0, Without())
from study import run
sys.exit(run.main(sys.argv[1:]))
"""


def records() -> list[Record]:
    return made_up_study(methods=("inflora", "sequential"), tasks=(3,), seeds=(0, 1), layers=1)


def written(folder: Path, found: list[Record]) -> Path:
    ledger = Ledger(folder / "ledger.jsonl")
    for one in found:
        ledger.append(one)
    ledger.close()
    return folder


def test_a_report_needs_neither_torch_nor_ray_nor_mlflow_nor_the_network(tmp_path: Path) -> None:
    study = written(tmp_path / "study", records())
    command = [sys.executable, "-c", BLOCKED, "--report", str(study)]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert (done.returncode, done.stderr) == (0, "")
    page = study / "report" / "report.html"
    assert done.stdout == f"Report: {page}\n"
    assert page.is_file()


def test_a_study_that_runs_is_reported_where_one_asks_for_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = written(tmp_path / "study", records()[:-9])
    with (study / "ledger.jsonl").open("ab") as file:
        file.write(b'{"kind": "task", "tri')  # what the driver is writing just now
    before = (study / "ledger.jsonl").read_bytes()
    with only_one(study):
        assert run.main(["--report", str(study), "--output", str(tmp_path / "out")]) == 0
    text = capsys.readouterr().out
    assert "This study is running: 1 of 2 cells have all results." in text
    assert (
        "sequential, 3 tasks: 0 of 2 confirmations are completed; still to confirm: seed 0, 1"
        in text
    )
    data = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert data["status"] == "running"
    assert [one["cell"] for one in data["missing"]] == ["method.name=sequential,data.tasks=3"]
    html = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "incomplete: running" in html
    # Nothing of the study was touched.
    assert (study / "ledger.jsonl").read_bytes() == before
    assert not (study / "report").exists()


def test_a_driver_that_was_killed_is_not_reported_as_running(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = written(tmp_path / "study", records()[:-9])
    with only_one(study):
        assert held(study) is True
    # The file stays behind, the lock does not.
    assert held(study) is False
    before = (study / "lock").read_bytes()
    assert run.main(["--report", str(study)]) == 0
    text = capsys.readouterr().out
    assert "This study is interrupted: 1 of 2 cells have all results." in text
    assert f"ended without a word (killed?). To go on: python study/run.py --resume {study}" in text
    data = json.loads((study / "report" / "report.json").read_text(encoding="utf-8"))
    assert data["status"] == "interrupted"
    assert (study / "lock").read_bytes() == before
    # A ledger that was copied here tells nothing of its driver.
    copied = written(tmp_path / "copied", records()[:-9])
    assert held(copied) is None
    assert run.main(["--report", str(copied)]) == 0
    assert "This study is running" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["study", "resumed"])
def test_a_ledger_of_a_newer_version_is_refused_before_anything_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    found = records()
    newer = {**found[0], "kind": kind, "version": VERSION + 1}
    # What only the newer release can read follows.
    study = written(tmp_path, [*found[: kind == "resumed"], newer, {"kind": "task", "new": 1}])
    for option in ("--report", "--resume"):
        assert run.main([option, str(study)]) == 2
        assert capsys.readouterr().err == (
            f"error: a ledger must be of version {VERSION} at most to be read by this release, but "
            f"{study / 'ledger.jsonl'} has version {VERSION + 1}: it was written by a newer one; "
            f"update this project.\n"
        )
    assert not (study / "report").exists()


def test_a_broken_ledger_is_refused_with_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = written(tmp_path, records()[:2])
    with (study / "ledger.jsonl").open("a") as file:
        file.write("no record\n")
    assert run.main(["--report", str(study)]) == 2
    assert "but line 3 of" in capsys.readouterr().err


def test_a_report_without_a_place_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = written(tmp_path, records())
    (tmp_path / "file").write_text("")
    assert run.main(["--report", str(study), "--output", str(tmp_path / "file")]) == 2
    assert "--output names another one" in capsys.readouterr().err
    assert run.main(["--report", str(tmp_path / "nowhere")]) == 2
    assert "--report must name the folder of a study" in capsys.readouterr().err
    assert run.main(["quickstart", "--report", str(study)]) == 2
    assert "--report must be given without a study file" in capsys.readouterr().err
