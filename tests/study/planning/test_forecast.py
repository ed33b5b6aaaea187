"""What a study will cost, added up."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from study.ledger import records
from study.planning.cells import Plan, Role
from study.planning.costs import trial_cost
from study.planning.costs.forecast import search_trials, study_forecast, tasks_left
from study.planning.costs.past_studies import past_costs
from study.planning.costs.probe import Load, Measured
from study.planning.costs.trial_cost import (
    ROLES,
    Costs,
    TrialCost,
    extrapolate,
    probe_costs,
    typical,
)
from study.planning.sections import Pruner
from study.search.pruning import Rungs
from tests.study.histories import facts, ledger_of
from tests.study.small_study import small_plan


def one_cell(tasks: int = 4, **changes: Any) -> Plan:
    return small_plan(grid={"method.name": ["inflora"], "data.tasks": [tasks]}, **changes)


def cost(seconds: float, tasks: int = 4, device: float | None = None) -> TrialCost:
    return TrialCost((seconds,) * tasks, 3.0, 1000.0, 10.0, device, "a probe")


def costs_of(plan: Plan, trial: TrialCost) -> Costs:
    return {(cell.id, role): trial for cell in plan.cells for role in ROLES}


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
    diagnosed = [replace(load, diagnosed=100) for load in probe_of().loads]
    more = extrapolate(probe_of(), diagnosed).seconds
    assert more == pytest.approx([seconds + 0.02 * 100 for seconds in expected])
    assert found.setup == 2.0
    assert found.checkpoint_bytes == 160
    assert found.record_bytes == 7 + 60 + 60 + (60 + 64) + (60 + 128)
    assert found.device_bytes is None
    assert found.hours(2) == pytest.approx((2 + expected[0] + expected[1]) / 3600)

    measured = probe_of(device_bytes=(100, 130), device_total=1000)
    assert extrapolate(measured, measured.loads).device_bytes == 130 + 2 * 30


def test_no_image_costs_more_than_in_the_smallest_evaluation() -> None:
    found = extrapolate(probe_of(evaluated=(20, 50.0)), probe_of().loads)
    assert found.seconds[3] == pytest.approx(1 + 8 + 0.4 + 0.04 * 10)


def test_hours_count_every_trial_and_pruning_spares_some() -> None:
    plan = one_cell(trials=9, pruner={"first_rung": 1, "reduction": 3})
    found = study_forecast(plan, costs_of(plan, cost(10.0)), gpu=0.5, slots=3)
    assert (found.trials, found.at_least) == (11, False)
    assert found.most_hours == pytest.approx(11 * 43 / 3600)
    left = tasks_left(plan.spec.pruner, 9, 4)
    assert left[0] == 9 and left[1] == left[2] < 9 and left[3] < left[2]
    assert found.hours == pytest.approx((11 * 3 + 10 * sum(left) + 2 * 40) / 3600)
    assert found.gpu_hours == pytest.approx(0.5 * (found.hours or 0))
    assert found.wall_hours == pytest.approx((found.hours or 0) / 3)
    assert found.storage_bytes == 2 * 1000 + 11 * 10
    record = found.record()
    assert (record["kind"], record["source"], record["trials"]) == ("estimate", "a probe", 11)
    assert (record["gpu_hours"], record["wall_hours"]) == (found.gpu_hours, found.wall_hours)


def test_search_trials_that_evaluate_at_rungs_are_spared_the_rest() -> None:
    """Evaluated after 1 and 4 of 4 tasks, of which each evaluation takes 4 of 10 seconds."""
    plan = one_cell(trials=1, pruner={"first_rung": 1, "reduction": 4})
    trial = replace(cost(10.0), evaluation=(4.0,) * 4)
    found = study_forecast(plan, costs_of(plan, trial), gpu=0, slots=1)
    assert found.most_hours == pytest.approx((3 + 32 + 2 * 43) / 3600)
    every = one_cell(trials=1, pruner={"kind": "none"}, search={"evaluate": "every_task"})
    found = study_forecast(every, costs_of(every, trial), gpu=0, slots=1)
    assert found.most_hours == pytest.approx(3 * 43 / 3600)


def test_a_study_takes_as_long_as_a_search_and_a_confirmation() -> None:
    plan = one_cell(trials=2)
    found = study_forecast(plan, costs_of(plan, cost(10.0)), gpu=0, slots=1000)
    assert found.wall_hours == pytest.approx(2 * 43 / 3600)
    # Searches that end early cost less.
    search = {"protocol": "first_k_tasks", "first_tasks": 2}
    plan = one_cell(search=search, pruner={"kind": "none"})
    found = study_forecast(plan, costs_of(plan, cost(10.0)), gpu=0, slots=1)
    assert found.hours == pytest.approx((3 * 23 + 2 * 43) / 3600)


def test_one_unknown_cell_leaves_the_totals_unknown() -> None:
    plan = small_plan()
    costs = {key: trial for key, trial in costs_of(plan, cost(1.0)).items() if "inflora" in key[0]}
    found = study_forecast(plan, costs, gpu=0, slots=1)
    assert found.hours is None and found.wall_hours is None and found.storage_bytes is None
    assert [cell.search_hours is None for cell in found.cells] == [False, False, True, True]


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
        kept += sum(not rungs.prunes(f"{at}", 2, result) for at, result in enumerate(results))
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
    trial = found.costs[plan.cells[0].id, "confirm"]
    assert len(trial.seconds) == 2 and min(trial.seconds) > 0 and trial.setup > 0
    assert (trial.checkpoint_bytes or 0) > 0 and trial.record_bytes > 500
    assert trial.source == "a probe"
    assert not probe_costs(plan, found.costs, lines.append).measured


def test_a_probe_that_fails_leaves_the_cell_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(*arguments: Any) -> Measured:
        raise FloatingPointError("the training loss must be finite.\nmore")

    monkeypatch.setattr(trial_cost, "measure", measure)
    plan = one_cell(2)
    lines: list[str] = []
    assert not probe_costs(plan, {}, lines.append).costs
    assert lines == [
        "probe 1/1: inflora, 2 tasks of gaussian: could not be measured: the training loss must "
        "be finite."
    ]


def test_what_is_searched_is_measured_at_its_default_or_else_at_the_low_end() -> None:
    epsilon = {"method.epsilon": {"low": 0.5, "high": 0.6}}
    plan = one_cell(search={"inflora": {"method.rank": None, **epsilon}})
    assert typical(plan.cells[0], "search")["method.rank"] == 10
    assert typical(plan.cells[0], "confirm")["data.evaluation"] == "test"
    # The end is below the default of method.epsilon.
    narrow = one_cell(fixed={"method.epsilon_end": 0.9}, search={"inflora": epsilon})
    assert typical(narrow.cells[0], "search")["method.epsilon"] == 0.5


def past_study(plan: Plan, folder: Path, seconds: float, role: Role = "search") -> None:
    """A finished trial of the plan's first cell, beside which the process took 1 s."""
    trial = plan.cells[0].trial(role, {}, 0)
    moments = [
        (records.study("past", "?", facts(plan.spec.to_plain())), 0.0),
        (trial.record(), 100.0),
    ]
    end = 101.0
    for task in range(1, trial.tasks + 1):
        end += seconds + 0.5
        measured = metrics(0.0, seconds, 0.5, 100.0 * task)
        moments.append((records.task(trial.id, task, measured, [0.5] * task), end))
    moments.append((records.end(trial.id, "completed"), end))
    ledger_of(({**record, "time": time} for record, time in moments), folder)


def test_past_trials_of_the_nearest_number_of_tasks_count(tmp_path: Path) -> None:
    def plan(tasks: int, **changes: Any) -> Plan:
        return one_cell(tasks, search="none", **changes)

    past_study(plan(2), tmp_path / "two", 4.0)
    past_study(plan(8), tmp_path / "eight", 1.0)
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
    plan = one_cell(2, search="none")
    past_study(plan, tmp_path / "search", 1.0)
    past_study(plan, tmp_path / "confirm", 3.0, role="confirm")
    costs, _ = past_costs(plan, [tmp_path / "search", tmp_path / "confirm"])
    cell = plan.cells[0].id
    assert costs[cell, "search"].seconds[0] == pytest.approx(1.5)
    assert costs[cell, "confirm"].seconds[0] == pytest.approx(3.5)
