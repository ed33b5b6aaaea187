"""`--plan`, `--probe`, `--past` and `--price`: what a person sees."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from study import engine, plan_table, run
from study.forecast import forecast
from study.ledger import Record, read_ledger
from study.plan_table import machine_slots, make_forecast, total_lines
from study.planning import Plan
from study.probe import Measured
from study.trial_cost import ROLES, Costs, Probed, TrialCost
from tests.study.small_study import FIXED, small_plan

STUDY = {
    "name": "small",
    "question": "Does it run?",
    "grid": {"method.name": ["linear_heads", "nearest_mean"]},
    "fixed": {**FIXED, "data.tasks": 2},
    "search": {"linear_heads": "all", "nearest_mean": []},
    "trials": 2,
    "seeds": [0, 1],
}


@pytest.fixture
def study_file(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(STUDY, sort_keys=False), encoding="utf-8")
    return path


def costs_of(plan: Plan, hours: float = 1.0, device: float | None = None) -> Costs:
    one = TrialCost((hours * 900,) * 4, 0.0, 1e6, 0.0, device, "a probe")
    return {(cell.id, role): one for cell in plan.cells for role in ROLES}


def test_without_a_measurement_the_plan_says_how_to_get_one(
    study_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run.main([str(study_file), "--plan"]) == 0
    out = capsys.readouterr().out
    assert "small: 2 cells" in out
    rows = [line.split("│")[1:-1] for line in out.splitlines() if line.startswith("│")]
    assert [[cell.strip() for cell in row[1:]] for row in rows] == [
        ["2", "2 + 2", "?", "?", "?"],
        ["2", "0 + 2", "–", "?", "?"],
    ]
    assert "\ntrials: 6\nhours of trials: not measured\n" in out
    assert "GPU-hours: none, trials run on CPUs\n" in out
    assert "wall time: not measured, " in out
    assert "storage, checkpoints and ledger: not measured\n" in out
    assert out.endswith(
        "not measured: --probe measures the first tasks of each kind of trial, "
        "--past DIR takes them from the folder of a past study\n"
    )


def test_planning_starts_no_ray(study_file: Path) -> None:
    code = (
        "import sys\n"
        "for name in ('ray', 'mlflow'): sys.modules[name] = None\n"
        "from study import run\n"
        f"assert run.main([{str(study_file)!r}, '--plan', '--probe']) == 0\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "probe 2/2: nearest_mean, 2 tasks of gaussian: 0." in done.stdout
    assert "hours of trials: " in done.stdout and "not measured" not in done.stdout
    assert done.stdout.endswith("measured: a probe\n")


def test_a_past_study_is_named_and_has_to_be_one(
    study_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = study_file.parent
    assert run.main([str(study_file), "--plan", "--past", str(folder)]) == 2
    assert capsys.readouterr().err == (
        f"error: --past must be the folder of a study, with its ledger.jsonl, but got {folder}: "
        f"No such file or directory.\n"
    )
    (folder / "ledger.jsonl").write_text("no json\n", encoding="utf-8")
    assert run.main([str(study_file), "--plan", "--past", str(folder)]) == 2
    assert "every line of a ledger must be a JSON object" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--price", "2"], "--price must be given with --plan."),
        (["--plan", "--price", "-2"], "--price must be a number of at least 0, but got -2."),
        (["--plan", "--price", "nan"], "--price must be a number of at least 0, but got nan."),
        (["--once", "--past", "x"], "--once must be given without --past."),
        (["--once", "--probe"], "--once must be given without --probe."),
        (["--plan", "--output", "x"], "--plan must be given without --output."),
    ],
)
def test_options_that_mean_nothing_together_are_refused(
    options: list[str], message: str, study_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run.main([str(study_file), *options]) == 2
    assert capsys.readouterr() == ("", f"error: {message}\n")


def test_totals_with_pruning_and_a_price() -> None:
    plan = small_plan(
        grid={"method.name": ["inflora"], "data.tasks": [4]},
        trials=9,
        pruner={"first_rung": 2},
        budget={"gpu_hours": 5},
        resources={"gpu": 0.5},
    )
    lines = total_lines(plan, forecast(plan, costs_of(plan, device=6e9), 0.5, 2), price=2.0)
    assert lines == [
        "trials: 11",
        "hours of trials: 8.6 h to 11.0 h",
        "GPU-hours: 4.3 h to 5.5 h, 0.5 of a GPU a trial",
        "wall time: 4.3 h, 2 trials at a time",
        "storage, checkpoints and ledger: 2 MB",
        "device memory of a trial: 6 GB",
        "price: 8.60 to 11.00 EUR at 2 EUR a GPU-hour",
        "from the pruning expected of the rungs to none at all",
        "the budget may end a cell's search sooner",
        "probes run alone: trials that share a GPU take longer",
        "measured: a probe",
    ]


def test_several_objectives_are_a_lower_bound() -> None:
    plan = small_plan(
        grid={"method.name": ["inflora"], "data.tasks": [4]},
        objective=["val/accuracy", "memory/branch_bytes"],
        pruner={"kind": "none"},
        search={"protocol": "first_k_tasks", "first_tasks": 2},
    )
    found = forecast(plan, costs_of(plan), None, None)
    lines = total_lines(plan, found, price=None)
    assert lines[:4] == [
        "trials: at least 5",
        "hours of trials: at least 3.5 h",
        "GPU-hours: not measured: resources.gpu auto is measured by --probe, or when the study "
        "starts",
        "wall time: unknown: this machine cannot run a trial; max_concurrent says how many others "
        "do",
    ]
    assert "at least: with several objectives every setting on a front is confirmed" in lines


def test_short_times_and_small_files_keep_their_digits() -> None:
    plan = small_plan(grid={"method.name": ["inflora"], "data.tasks": [4]}, pruner={"kind": "none"})
    found = forecast(plan, costs_of(plan, hours=1 / 360), 0, 1)
    assert total_lines(plan, found, None)[1] == "hours of trials: 50 s"
    found = forecast(plan, costs_of(plan, hours=0.1), 0, 1)
    assert total_lines(plan, found, None)[1] == "hours of trials: 30 min"


@pytest.mark.parametrize(
    ("resources", "cores", "gpus", "gpu", "most", "expected"),
    [
        ({}, 8, 0, 0.0, None, 8),
        ({"cpu": 3}, 8, 0, 0.0, None, 2),
        ({}, 8, 0, 0.0, 5, 5),
        ({"gpu": 0.25}, 8, 1, 0.25, None, 4),
        ({"gpu": 1}, 8, 0, 1.0, None, None),
        ({"gpu": 1}, 8, 0, 1.0, 16, 16),
        ({"gpu": "auto"}, 8, 1, None, None, None),
    ],
)
def test_trials_at_a_time_are_those_of_this_machine(
    resources: dict[str, Any], cores: int, gpus: int, gpu: float, most: int, expected: int
) -> None:
    plan = small_plan(resources=resources, max_concurrent=most)
    assert machine_slots(plan, cores, gpus, gpu) == expected


def test_a_probe_on_a_gpu_tells_the_share(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "nvidia0").touch()
    (tmp_path / "nvidiactl").touch()
    measured = Measured(0.0, (), (), (), (1, 0.1), (10, 10), 100)

    def probe(plan: Plan, costs: Costs, tell: Callable[[str], None]) -> Probed:
        return Probed({}, (measured,))

    monkeypatch.setattr(plan_table, "DEVICES", tmp_path)
    monkeypatch.setattr(plan_table, "probe_costs", probe)
    plan = small_plan(resources={"gpu": "auto"})
    assert make_forecast(plan, [], True, print).gpu == 0.125
    assert make_forecast(plan, [], False, print).gpu is None


class _Tracker:
    failure = "away."

    def __init__(self, *arguments: Any) -> None: ...

    def close(self, timeout: float) -> bool:
        return True


def test_a_study_that_was_probed_ends_with_the_error_of_the_estimate(
    study_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run_study(plan: Plan, output: Path, record: Callable[[Record], None], *_: Any) -> bool:
        trial = plan.cells[0].trial("search", {}, 0)
        start = {"role": "search", "params": trial.params, "searched": {}, "seed": 0}
        record({"kind": "trial", "trial": trial.id, "cell": plan.cells[0].id, **start})
        end = {"status": "failed", "error": "none"}
        record({"kind": "end", "trial": trial.id, **end})
        return True

    monkeypatch.setattr("study.conduct.Tracker", _Tracker)
    monkeypatch.setattr(engine, "run_study", run_study)
    output = study_file.parent / "out"
    run.main([str(study_file), "--probe", "--output", str(output)])
    out = capsys.readouterr().out
    assert "probe 1/2: linear_heads" in out
    assert "What was estimated (from a probe) and what happened:\n  trials: 6, 1 (+500%)" in out
    (estimate,) = [one for one in read_ledger(output / "ledger.jsonl") if one["kind"] == "estimate"]
    assert estimate["trials"] == 6 and estimate["trial_hours"] > 0
