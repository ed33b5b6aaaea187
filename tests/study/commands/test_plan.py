"""`--validate`, `--plan`, `--probe`, `--past` and `--price`: what a person sees."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from study.commands import plan as plan_table
from study.commands.plan import describe, machine_slots, make_forecast, total_lines
from study.ledger import Journal, StudyFolder, read_ledger
from study.planning.cells import Plan
from study.planning.costs import timings
from study.planning.costs.forecast import study_forecast
from study.planning.costs.probe import Measured
from study.planning.costs.trial_cost import ROLES, Costs, Probed, TrialCost
from study.report import estimate_lines
from tests.study.commands.conftest import Command, PlayedBy, WriteStudy
from tests.study.histories import study_of
from tests.study.report.engine_ledgers import resumed, several_objectives
from tests.study.small_study import FIXED, records_of, small_plan

STUDY = {
    "name": "small",
    "question": "Does it run?",
    "grid": {"method.name": ["linear_heads", "nearest_mean"]},
    "fixed": {**FIXED, "data.tasks": 2},
    "search": {"linear_heads": "all", "nearest_mean": []},
    "trials": 2,
    "seeds": [0, 1],
}
ONE_CELL = {"method.name": ["inflora"], "data.tasks": [4]}


@pytest.fixture
def study_file(write_study: WriteStudy) -> Path:
    return write_study(STUDY)


def test_the_usual_needs_no_words() -> None:
    assert describe(small_plan())[:2] == [
        "small.yaml is valid: 4 cells, up to 12 search trials and 8 confirmation trials.",
        "  method.name=inflora,data.tasks=2: searches method.rank, method.epsilon, optim.lr",
    ]


def test_what_is_unusual_is_said() -> None:
    plan = small_plan(
        grid=ONE_CELL,
        search={"protocol": "first_k_tasks", "first_tasks": 2, "compare": True},
        sampler="random",
        objective=["val/accuracy", "val/forgetting"],
        pruner={"kind": "none"},
        budget={"gpu_hours": 5, "wall_hours": 0.5},
        resources={"gpu": 1},
    )
    assert describe(plan)[1:7] == [
        "  searches see the first 2 tasks only",
        "  search trials are evaluated after every task, which objective val/forgetting needs",
        "  whole_stream runs beside it, for comparison",
        "  sampler: random",
        "  every setting on a cell's front is confirmed: val/accuracy max, val/forgetting min",
        "  a cell's search ends at 5 GPU-hours or 0.5 hours, if trials are left",
    ]
    transfer = {"protocol": "transfer", "confirm_on": [{"data.classes": 4}]}
    _, seeds, *_, last = describe(small_plan(grid=ONE_CELL, search=transfer, seeds=[0, 1, 2]))
    assert seeds == (
        "  searches use seed 0, confirmations [1, 2]: settings are confirmed on data they were not "
        "chosen on"
    )
    assert last.endswith(": takes the settings of method.name=inflora,data.tasks=4")


def costs_of(plan: Plan, hours: float = 1.0, device: float | None = None) -> Costs:
    cost = TrialCost((hours * 900,) * 4, 0.0, 1e6, 0.0, device, "a probe")
    return {(cell.id, role): cost for cell in plan.cells for role in ROLES}


def test_without_a_measurement_reference_timings_are_scaled(
    study_file: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A thousand times as slow as where they were measured, which had units of 0.1 to 1 ms.
    monkeypatch.setattr(timings, "unit_seconds", lambda seconds: 0.5)
    code, out, _ = command(study_file, "--plan")
    assert code == 0 and out.startswith(f"{timings.SCALED}\nsmall: 2 cells")
    rows = [line.split() for line in out.splitlines() if line.endswith(tuple("0123456789"))]
    searched, fixed = (row for row in rows if row[0] in ("linear_heads", "nearest_mean"))
    assert searched[1:5] == ["2", "2", "+", "2"] and fixed[1:6] == ["2", "0", "+", "2", "–"]
    assert float(searched[-1]) > 1 and float(fixed[-1]) > 1
    assert "\ntrials: 6\nhours of trials: " in out and "\nwall time: " in out
    assert "?" not in out
    assert f"\nnot measured: storage, checkpoints and ledger. {plan_table.HINT}\n" in out
    assert out.endswith(f"measured: {timings.SOURCE}\n")


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"resources": {"gpu": 1}}, "trials on a GPU"),
        ({"fixed": {"backbone.name": "test_swin"}}, "inflora on test_swin at 8 pixels"),
    ],
)
def test_what_no_reference_covers_is_said_once(
    changes: dict[str, Any], what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    plan_table.show_forecast(small_plan(grid=ONE_CELL, **changes), [], False, None)
    out = capsys.readouterr().out
    assert out.startswith(f"not measured: the reference timings have no {what}\n")
    assert "s/task" not in out and "?" not in out
    assert out.count("hours of trials") == 1 and ": hours of trials; " in out


def test_cells_that_a_setting_is_confirmed_in_are_told_apart(
    study_file: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    to = "[{data.rendition: street}, {data.rendition: street, data.rendition_strength: 0.5}]"
    transfer = f"search={{protocol: transfer, confirm_on: {to}}}"
    monkeypatch.setattr(timings, "unit_seconds", lambda seconds: 0.5)
    code, out, _ = command(study_file, "--plan", "--set", transfer)
    assert code == 0
    cells = [line.split("  ")[0].strip() for line in out.splitlines()]
    assert (
        "linear_heads linear_heads, rendition street "
        "linear_heads, rendition street, rendition strength 0.5 nearest_mean "
    ) in " ".join(cells)


@pytest.mark.process
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


def test_a_past_study_is_named_and_has_to_be_one(study_file: Path, command: Command) -> None:
    folder = study_file.parent
    assert command(study_file, "--plan", "--past", folder) == (
        2,
        "",
        f"error: --past must be the folder of a study, with its ledger.jsonl, but got {folder}: "
        f"No such file or directory.\n",
    )
    (folder / "ledger.jsonl").write_text("no json\n", encoding="utf-8")
    code, _, err = command(study_file, "--plan", "--past", folder)
    assert (code, "every line of a ledger must be a record as it was written" in err) == (2, True)


def test_totals_with_pruning_and_a_price() -> None:
    plan = small_plan(
        grid=ONE_CELL,
        trials=9,
        pruner={"first_rung": 2},
        budget={"gpu_hours": 5},
        resources={"gpu": 0.5},
    )
    lines = total_lines(plan, study_forecast(plan, costs_of(plan, device=6e9), 0.5, 2), price=2.0)
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


ROUNDS = {
    "grid": {"method.name": ["inflora", "nearest_mean", "sd_lora"], "data.tasks": [4]},
    "search": "none",
    "seeds": {"first": 3, "at_most": 5, "until": "decided"},
}


def test_seeds_until_decided_are_counted_from_least_to_most() -> None:
    plan = small_plan(**ROUNDS)
    head, rounds, *_, compared = describe(plan)
    assert head.endswith("3 cells, up to 0 search trials and 9 (up to 13) confirmation trials.")
    assert rounds == "  3 seeds a cell, and up to 5 while a contrast is undecided"
    assert compared == "  compares inflora vs nearest_mean, 4 tasks"
    found = study_forecast(plan, costs_of(plan), 0, 13)
    assert [row.most_confirmations for row in found.cells] == [5, 5, 3]
    # One confirmation after the other in the rounds, whatever there is room for.
    assert (found.wall_hours, found.most_wall_hours) == (1, 3)
    assert total_lines(plan, found, None)[:5] == [
        "trials: 9 (up to 13)",
        "hours of trials: 9.0 h to 13.0 h",
        "GPU-hours: none, trials run on CPUs",
        "wall time: 60 min to 3.0 h, 13 trials at a time",
        "storage, checkpoints and ledger: 13 MB",
    ]
    assert "from the first seeds alone to all that contrasts may ask for" in total_lines(
        plan, found, None
    )


def test_several_objectives_are_a_lower_bound() -> None:
    plan = small_plan(
        grid=ONE_CELL,
        objective=["val/accuracy", "memory/branch_bytes"],
        pruner={"kind": "none"},
        search={"protocol": "first_k_tasks", "first_tasks": 2},
    )
    found = study_forecast(plan, costs_of(plan), None, None)
    lines = total_lines(plan, found, price=None)
    assert lines[:4] == [
        "trials: at least 5",
        "hours of trials: at least 3.5 h",
        "GPU-hours: not measured: resources.gpu auto is by --probe, or when the study starts",
        "wall time: unknown: this machine cannot run a trial; max_concurrent says how many others "
        "do",
    ]
    assert "at least: with several objectives every setting on a front is confirmed" in lines


def test_short_times_and_small_files_keep_their_digits() -> None:
    plan = small_plan(grid=ONE_CELL, pruner={"kind": "none"})
    for hours, text in ((1 / 360, "50 s"), (0.1, "30 min")):
        found = study_forecast(plan, costs_of(plan, hours), 0, 1)
        assert total_lines(plan, found, None)[1] == f"hours of trials: {text}"


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

    monkeypatch.setattr(plan_table, "DEVICES", tmp_path)
    monkeypatch.setattr(plan_table, "probe_costs", lambda *_: Probed({}, (measured,)))
    plan = small_plan(resources={"gpu": "auto"})
    assert make_forecast(plan, [], True).gpu == 0.125
    assert make_forecast(plan, [], False).gpu is None


@pytest.mark.usefixtures("quick_report")
def test_a_study_that_was_probed_ends_with_the_error_of_the_estimate(
    study_file: Path, output: Path, played_by: PlayedBy, command: Command
) -> None:
    def run_study(plan: Plan, folder: StudyFolder, journal: Journal, *_: Any) -> bool:
        trial = plan.cells[0].trial("search", {}, 0)
        for record in records_of(trial, status="failed", error="none"):
            journal.append(record)
        return True

    played_by(run_study)
    out = command(study_file, "--probe", "--output", output).out
    assert "probe 1/2: linear_heads" in out
    assert "What was estimated (from a probe) and what happened:\n  trials: 6, 1 (+500%)" in out
    records = read_ledger(output / "ledger.jsonl")
    (estimate,) = [record for record in records if record["kind"] == "estimate"]
    assert estimate["trials"] == 6 and estimate["trial_hours"] > 0


def test_what_was_estimated_is_said_beside_what_happened() -> None:
    lines = estimate_lines(study_of(several_objectives()))
    assert lines[:2] == [
        "What was estimated (from a probe of one task) and what happened:",
        "  trials: 14, 17 (-18%)",
    ]
    # What no record tells is left out.
    assert len(lines) == 1 + 6
    assert estimate_lines(study_of(resumed())) == []
