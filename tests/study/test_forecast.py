"""What a study will cost, added up, and how far off that was."""

import random
from pathlib import Path
from typing import Any

import pytest
import torch

from study import trial_cost
from study.actual_cost import trial_seconds
from study.forecast import compare_lines, forecast, search_trials, tasks_left
from study.ledger import Ledger, Record
from study.past_costs import past_costs
from study.planning import Plan
from study.probe import Load, Measured
from study.pruning import Rungs
from study.sections import Pruner
from study.trial_cost import ROLES, Costs, TrialCost, extrapolate, probe_costs, typical
from tests.study.small_study import small_plan


def cost(seconds: float, tasks: int = 4, device: float | None = None) -> TrialCost:
    return TrialCost((seconds,) * tasks, 3.0, 1000.0, 10.0, device, "a probe")


def costs_of(plan: Plan, one: TrialCost) -> Costs:
    return {(cell.id, role): one for cell in plan.cells for role in ROLES}


def metrics(pass_: float, train: float, evaluate: float, size: float = 100.0) -> dict[str, float]:
    return {
        "time/design_seconds": pass_ / 2,
        "time/absorb_seconds": pass_ / 2,
        "time/train_seconds": train,
        "time/evaluate_seconds": evaluate,
        "memory/checkpoint_bytes": size,
    }


def probe_of(evaluated: tuple[int, float] = (20, 0.6), **changes: Any) -> Measured:
    tasks = (metrics(9.0, 9.0, 9.0, 100), metrics(1.0, 4.0, 0.4, 120))
    loads = tuple(Load(10, 10 * (at + 1), 5 * (at + 1)) for at in range(4))
    return Measured(2.0, tasks, (50, 60), loads, evaluated, **changes)


def test_the_second_task_is_stretched_by_images() -> None:
    found = extrapolate(probe_of(), probe_of().loads, params_bytes=7)
    # Passes: 1 s for 10 images; training: 4 s for 20; evaluation: 0.4 s for 10 and 0.02 s for
    # each one more, as 20 take 0.6 s.
    expected = [
        1 + 0.2 * epoch + 0.4 + 0.02 * (held - 10)
        for epoch, held in zip((10, 20, 30, 40), (5, 10, 15, 20), strict=True)
    ]
    assert found.seconds == pytest.approx(expected)
    assert found.setup == 2.0
    assert found.checkpoint_bytes == 160
    assert found.record_bytes == 7 + 60 + 60 + (60 + 64) + (60 + 128)
    assert found.device_bytes is None
    assert found.hours(2) == pytest.approx((2 + expected[0] + expected[1]) / 3600)


def test_device_memory_grows_to_the_last_task() -> None:
    measured = probe_of(device_bytes=(100, 130), device_total=1000)
    assert extrapolate(measured, measured.loads).device_bytes == 130 + 2 * 30


def test_no_image_costs_more_than_in_the_smallest_evaluation() -> None:
    found = extrapolate(probe_of(evaluated=(20, 50.0)), probe_of().loads)
    assert found.seconds[3] == pytest.approx(1 + 8 + 0.4 + 0.04 * 10)


def test_hours_count_every_trial_and_pruning_spares_some() -> None:
    plan = small_plan(
        grid={"method.name": ["inflora"], "data.tasks": [4]},
        trials=9,
        pruner={"first_rung": 1, "reduction": 3},
    )
    found = forecast(plan, costs_of(plan, cost(10.0)), gpu=0.5, slots=3)
    assert (found.trials, found.at_least) == (11, False)
    assert found.most_hours == pytest.approx(11 * 43 / 3600)
    left = tasks_left(plan.spec.pruner, 9, 4)
    assert left[0] == 9 and left[1] == left[2] < 9 and left[3] < left[2]
    assert found.hours == pytest.approx((11 * 3 + 10 * sum(left) + 2 * 40) / 3600)
    assert found.gpu_hours == pytest.approx(0.5 * (found.hours or 0))
    assert found.wall_hours == pytest.approx((found.hours or 0) / 3)
    assert found.storage_bytes == 2 * 1000 + 11 * 10
    record = found.record()
    assert set(record) == {
        "kind", "trials", "trial_hours", "most_trial_hours", "gpu_hours", "wall_hours",
        "storage_bytes", "device_bytes", "source",
    }  # fmt: skip
    assert (record["kind"], record["source"]) == ("estimate", "a probe")


def test_a_study_takes_as_long_as_a_search_and_a_confirmation() -> None:
    plan = small_plan(grid={"method.name": ["inflora"], "data.tasks": [4]}, trials=2)
    found = forecast(plan, costs_of(plan, cost(10.0)), gpu=0, slots=1000)
    assert found.wall_hours == pytest.approx(2 * 43 / 3600)


def test_searches_that_end_early_cost_less() -> None:
    plan = small_plan(
        grid={"method.name": ["inflora"], "data.tasks": [4]},
        search={"protocol": "first_k_tasks", "first_tasks": 2},
        pruner={"kind": "none"},
    )
    found = forecast(plan, costs_of(plan, cost(10.0)), gpu=0, slots=1)
    assert found.hours == pytest.approx((3 * 23 + 2 * 43) / 3600)


def test_one_unknown_cell_leaves_the_totals_unknown() -> None:
    plan = small_plan()
    costs = {key: one for key, one in costs_of(plan, cost(1.0)).items() if "inflora" in key[0]}
    found = forecast(plan, costs, gpu=0, slots=1)
    assert found.hours is None and found.wall_hours is None and found.storage_bytes is None
    assert [one.search_hours is None for one in found.cells] == [False, False, True, True]


def test_several_objectives_cost_at_least_that() -> None:
    plan = small_plan(objective=["val/accuracy", "memory/branch_bytes"], pruner={"kind": "none"})
    assert forecast(plan, {}, gpu=0, slots=1).at_least


def test_no_more_trials_than_settings() -> None:
    search = {"inflora": {"method.rank": {"choices": [2, 3]}}, "sd_lora": {"optim.lr": None}}
    plan = small_plan(search=search)
    assert [search_trials(plan, cell) for cell in plan.cells] == [2, 2, 3, 3]
    nothing = small_plan(search="none")
    assert [search_trials(nothing, cell) for cell in nothing.cells] == [0] * 4


@pytest.mark.parametrize("reduction", [2, 3])
def test_what_is_left_at_a_rung_is_what_rungs_keep(reduction: int) -> None:
    pruner = Pruner(reduction=reduction, first_rung=2)
    expected = tasks_left(pruner, 12, 3)
    rng = random.Random(0)
    kept = 0
    for _ in range(400):
        rungs = Rungs(pruner, tasks=3, sign=1, metric="val/accuracy")
        results = [{"val/accuracy": rng.random()} for _ in range(12)]
        kept += sum(not rungs.prunes(f"{at}", 2, one) for at, one in enumerate(results))
    assert expected[:2] == (12, 12)
    assert kept / 400 == pytest.approx(expected[2], rel=0.05)


def test_a_kind_of_cell_is_measured_once_and_both_roles_are_known() -> None:
    plan = small_plan(
        grid={"method.name": ["linear_heads"], "optim.lr": [0.1, 0.2], "data.tasks": [2]},
        search="none",
    )
    lines: list[str] = []
    before = torch.get_num_threads()
    found = probe_costs(plan, {}, lines.append)
    assert torch.get_num_threads() == before
    assert len(found.measured) == 1
    assert len(lines) == 1
    assert lines[0].startswith("probe 1/1: linear_heads, 2 tasks of gaussian: 0.")
    assert lines[0].endswith(" s a task")
    assert set(found.costs) == {(cell.id, role) for cell in plan.cells for role in ROLES}
    one = found.costs[plan.cells[0].id, "confirm"]
    assert len(one.seconds) == 2 and min(one.seconds) > 0 and one.setup > 0
    assert one.checkpoint_bytes > 0 and one.record_bytes > 500 and one.source == "a probe"
    assert not probe_costs(plan, found.costs, lines.append).measured


def test_a_probe_that_fails_leaves_the_cell_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(*arguments: Any) -> Measured:
        raise FloatingPointError("the training loss must be finite.\nmore")

    monkeypatch.setattr(trial_cost, "measure", measure)
    plan = small_plan(grid={"method.name": ["inflora"], "data.tasks": [2]})
    lines: list[str] = []
    assert not probe_costs(plan, {}, lines.append).costs
    assert lines == [
        "probe 1/1: inflora, 2 tasks of gaussian: could not be measured: the training loss must "
        "be finite."
    ]


def test_what_is_searched_is_measured_at_its_default_or_else_at_the_low_end() -> None:
    plan = small_plan(
        grid={"method.name": ["inflora"], "data.tasks": [4]},
        search={"inflora": {"method.rank": None, "method.epsilon": {"low": 0.5, "high": 0.6}}},
    )
    assert typical(plan.cells[0], "search")["method.rank"] == 10
    assert typical(plan.cells[0], "confirm")["data.evaluation"] == "test"
    narrow = small_plan(
        grid={"method.name": ["inflora"], "data.tasks": [4]},
        fixed={"method.epsilon_end": 0.9},  # below the default of method.epsilon
        search={"inflora": {"method.epsilon": {"low": 0.5, "high": 0.6}}},
    )
    assert typical(narrow.cells[0], "search")["method.epsilon"] == 0.5


def ledger_of(plan: Plan, folder: Path, seconds: float, role: str = "search") -> list[Record]:
    """A finished trial of the plan's first cell, beside which the process took 1 s."""
    cell = plan.cells[0]
    trial = cell.trial("search" if role == "search" else "confirm", {}, 0)
    records: list[Record] = [
        {"kind": "trial", "trial": "t", "cell": cell.id, "role": role, "params": trial.params,
         "time": 100.0}
    ]  # fmt: skip
    for task in range(1, cell.tasks + 1):
        one = metrics(0.0, seconds, 0.5, 100.0 * task)
        at = 101.0 + task * (seconds + 0.5)
        records.append(
            {"kind": "task", "trial": "t", "task": task, "metrics": one, "accuracy_row": [0.5],
             "time": at}
        )  # fmt: skip
    records.append({"kind": "end", "trial": "t", "status": "completed", "time": at})
    folder.mkdir(exist_ok=True)
    ledger = Ledger(folder / "ledger.jsonl")
    for record in records:
        ledger.append(record)
    ledger.close()
    return records


def test_past_trials_of_the_nearest_number_of_tasks_count(tmp_path: Path) -> None:
    def plan(tasks: int, **changes: Any) -> Plan:
        return small_plan(
            grid={"method.name": ["inflora"], "data.tasks": [tasks]}, search="none", **changes
        )

    ledger_of(plan(2), tmp_path / "two", 4.0)
    ledger_of(plan(8), tmp_path / "eight", 1.0)
    costs, lines = past_costs(plan(4), [tmp_path / "two"])
    cell = plan(4).cells[0].id
    # Half the images a task; each evaluation is over as many.
    assert costs[cell, "search"].seconds == pytest.approx([2.5] * 4)
    assert costs[cell, "search"].setup == pytest.approx(1.0)
    assert costs[cell, "confirm"].checkpoint_bytes == 200
    assert lines == [f"{cell}: 1 past trials of 2 tasks"]
    both, lines = past_costs(plan(6), [tmp_path / "two", tmp_path / "eight"])
    assert lines == [f"{plan(6).cells[0].id}: 1 past trials of 8 tasks"]
    assert len(both[plan(6).cells[0].id, "search"].seconds) == 6
    other, lines = past_costs(plan(4, fixed={"optim.epochs": 3}), [tmp_path / "two"])
    assert not other
    assert lines == [f"{cell}: no past trial is of its kind"]


def test_past_trials_of_the_same_role_come_first(tmp_path: Path) -> None:
    plan = small_plan(grid={"method.name": ["inflora"], "data.tasks": [2]}, search="none")
    ledger_of(plan, tmp_path / "search", 1.0)
    ledger_of(plan, tmp_path / "confirm", 3.0, role="confirm")
    costs, _ = past_costs(plan, [tmp_path / "search", tmp_path / "confirm"])
    cell = plan.cells[0].id
    assert costs[cell, "search"].seconds[0] == pytest.approx(1.5)
    assert costs[cell, "confirm"].seconds[0] == pytest.approx(3.5)


def test_time_between_two_sessions_is_nobody_s() -> None:
    records: list[Record] = [
        {"kind": "trial", "trial": "a", "time": 0.0},
        {"kind": "task", "trial": "a", "time": 5.0, "metrics": {}},
        {"kind": "resumed", "time": 1000.0},
        {"kind": "task", "trial": "a", "time": 1010.0, "metrics": {"time/train_seconds": 4.0}},
        {"kind": "end", "trial": "a", "time": 1011.0},
    ]
    assert trial_seconds(records) == {"a": 5.0 + 4.0 + 1.0}


def test_the_estimate_is_shown_beside_what_happened() -> None:
    records: list[Record] = [
        {"kind": "study", "time": 0.0},
        {"kind": "estimate", "time": 0.0, "trials": 2, "trial_hours": 1.0, "gpu_hours": 0.5,
         "wall_hours": 2.0, "storage_bytes": None, "device_bytes": 3e9, "source": "a probe"},
        {"kind": "trial", "trial": "a", "role": "confirm", "time": 0.0},
        {"kind": "task", "trial": "a", "time": 3600.0,
         "metrics": {"memory/peak_device_bytes": 2e9, "memory/checkpoint_bytes": 5e6}},
        {"kind": "end", "trial": "a", "time": 7200.0},
        {"kind": "finished", "time": 7200.0, "wall_seconds": 3600.0},
    ]  # fmt: skip
    assert compare_lines(records) == [
        "What was estimated (from a probe) and what happened:",
        "  trials: 2, 1 (+100%)",
        "  hours of trials: 1 h, 2 h (-50%)",
        "  GPU-hours: 0.5 h, 1 h (-50%)",
        "  wall time: 2 h, 1 h (+100%)",
        "  device memory of a trial: 3 GB, 2 GB (+50%)",
    ]
    assert compare_lines([records[0], *records[2:]]) == []
