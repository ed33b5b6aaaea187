"""What seeds could show of each contrast, from past confirmations, a pilot, or neither."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import stdev
from typing import Any

import pytest

from study.commands.power import power_lines
from study.evidence import Design, seeds_for, smallest_difference
from study.ledger import records
from study.planning.cells import Plan
from study.planning.costs import contrast_power
from study.planning.costs.contrast_power import contrast_powers
from study.planning.costs.probe import last_metrics
from study.planning.openings import opening_records
from tests.study.histories import ledger_of, timed
from tests.study.small_study import records_of, small_plan

METHODS = {"inflora": 0.6, "nearest_mean": 0.5}
# Of the differences on seeds 0, 1 and 2.
MORE = (0.01, 0.03, 0.08)


def planned(tasks: int = 4, **changes: Any) -> Plan:
    grid = {"method.name": list(METHODS), "data.tasks": [tasks]}
    return small_plan(**{"grid": grid, "search": "none", "seeds": [0, 1, 2], **changes})


def past_study(folder: Path, plan: Plan, more: tuple[float | None, ...] = MORE) -> Path:
    """A study that has confirmed each cell; InfLoRA's accuracy is higher by `more`."""
    ledger = opening_records(plan, {}, {})
    for cell in plan.cells:
        name = cell.key["method.name"]
        found = cell.trial("search", {}, 0)
        ledger.append(records.winner(cell.id, found.id, {}, None, "val/accuracy", {}))
        for seed, gain in enumerate(more):
            accuracy = None if gain is None else 0.5 + (gain if name == "inflora" else 0)
            trial = cell.trial("confirm", {}, seed)
            measured: list[records.Metrics] = [{"test/accuracy": 0.9}] * (cell.tasks - 1)
            ledger += records_of(trial, [*measured, {"test/accuracy": accuracy}])
    folder.mkdir()
    ledger_of(timed(ledger), folder)
    return folder


def untold(line: str) -> None:
    raise AssertionError(line)


def test_a_past_study_tells_the_spread_of_paired_differences(tmp_path: Path) -> None:
    plan = planned(margin=2.0)
    past = past_study(tmp_path / "past", planned())
    (power,) = contrast_powers(plan, [past], 0, untold)
    assert power.spread is not None and power.spread.pairs == 3
    std = stdev(100 * gain for gain in MORE)
    assert power.spread.std == pytest.approx(std)
    assert power.smallest == pytest.approx(smallest_difference(Design(3, 3), std))
    assert power.seeds == seeds_for(2.0, power.spread.std)
    head, line = power_lines(plan, [power])
    assert head == (
        "what 3 seeds could show with 80 % power (paired t-test, 5 % error over 1 contrast):"
    )
    assert line == (
        f"  inflora vs nearest_mean, 4 tasks: differences of {power.smallest:.3g} points or more; "
        f"one of the margin (2 points) would need {power.seeds} seeds (spread {std:.3g} points "
        f"over 3 pairs of past confirmations of 4 tasks)"
    )


def test_the_nearest_number_of_tasks_counts_and_other_training_does_not(tmp_path: Path) -> None:
    near = past_study(tmp_path / "near", planned(4))
    far = past_study(tmp_path / "far", planned(8), (0.0, 0.2, 0.4, 0.6))
    (power,) = contrast_powers(planned(2), [far, near], 0, untold)
    assert power.spread is not None and power.spread.source.endswith("of 4 tasks")
    other = past_study(tmp_path / "other", planned(2, fixed={"optim.epochs": 3}))
    (power,) = contrast_powers(planned(2), [other], 0, untold)
    assert (power.spread, power.known) == (None, False)


def test_what_varies_in_the_grid_has_to_be_the_same(tmp_path: Path) -> None:
    grid = {"method.rank": [2, 4]}
    fixed = {"method.name": "inflora", "data.tasks": 2}
    plan = planned(grid=grid, fixed=fixed, contrasts=["2 vs 4"])
    ledger = opening_records(plan, {}, {})
    for cell in plan.cells:
        found = cell.trial("search", {}, 0)
        ledger.append(records.winner(cell.id, found.id, {}, None, "val/accuracy", {}))
        for seed in range(3):
            accuracy = 0.5 + 0.01 * seed**2 * cell.key["method.rank"]
            trial = cell.trial("confirm", {}, seed)
            ledger += records_of(trial, [{"test/accuracy": accuracy}] * 2)
    ledger_of(timed(ledger), tmp_path)
    (power,) = contrast_powers(plan, [tmp_path], 0, untold)
    assert power.spread is not None
    assert power.spread.std == pytest.approx(stdev([0, 2, 8]))


@pytest.mark.parametrize(
    ("more", "line"),
    [
        ((0.01,), "the spread between seeds is not known"),
        ((0.01, None), "the spread between seeds is not known"),
        (
            (0.01, 0.01),
            "the spread between seeds is not known: 2 pairs of past confirmations of 4 tasks do "
            "not differ",
        ),
    ],
)
def test_too_little_tells_nothing(
    tmp_path: Path, more: tuple[float | None, ...], line: str
) -> None:
    plan = planned()
    past = past_study(tmp_path / "past", planned(), more)
    powers = contrast_powers(plan, [past], 0, untold)
    assert power_lines(plan, powers)[1].endswith(f": {line}")
    assert powers[0].smallest is None


def test_without_a_source_the_plan_says_that_the_spread_is_not_known() -> None:
    plan = planned(seeds={"first": 3, "at_most": 5, "until": "decided"})
    head, line, sources = power_lines(plan, contrast_powers(plan, [], 0, untold))
    assert head.startswith("what up to 5 seeds could show with 80 % power")
    assert line == "  inflora vs nearest_mean, 4 tasks: the spread between seeds is not known"
    assert "--past DIR" in sources and "--pilot N" in sources
    assert not any("?" in text for text in (head, line, sources))
    alone = planned(contrasts="none")
    assert power_lines(alone, contrast_powers(alone, [], 3, untold)) == []


def test_one_seed_shows_nothing(tmp_path: Path) -> None:
    plan = planned(seeds=[0])
    powers = contrast_powers(plan, [past_study(tmp_path / "past", planned())], 0, untold)
    assert "what 1 seed could show" in power_lines(plan, powers)[0]
    assert "differences of none; one of the margin (1 point) would" in power_lines(plan, powers)[1]


def pilot(results: Callable[[Mapping[str, Any]], Mapping[str, float] | str]) -> Any:
    def measured(params: Mapping[str, Any], cpu: float, gpu: bool) -> Mapping[str, float] | str:
        assert (params["data.evaluation"], params["data.tasks"]) == ("validation", 4)
        assert (cpu, gpu) == (1, False)
        return results(params)

    return measured


def test_a_pilot_measures_only_what_no_past_study_tells(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lines: list[str] = []

    def results(params: Mapping[str, Any]) -> Mapping[str, float] | str:
        if params["method.name"] == "sd_lora" and params["seed"] == 1:
            return "the loss is not finite."
        return {"val/accuracy": params["seed"] / 50 if params["method.name"] == "sd_lora" else 0.5}

    monkeypatch.setattr(contrast_power, "last_metrics", pilot(results))
    plan = planned(
        grid={"method.name": [*METHODS, "sd_lora"], "data.tasks": [4]},
        contrasts=["inflora vs nearest_mean", "sd_lora vs nearest_mean"],
    )
    past = past_study(tmp_path / "past", planned())
    first, second = contrast_powers(plan, [past], 4, lines.append)
    assert first.spread is not None and first.spread.source.startswith("past")
    assert second.spread is not None
    assert second.spread.source == "a pilot on validation images"
    assert second.spread.std == pytest.approx(stdev([0, 4, 6]))
    assert lines == [
        "pilot 1/2: method.name=sd_lora,data.tasks=4: 3 of 4 trials, the loss is not finite.",
        "pilot 2/2: method.name=nearest_mean,data.tasks=4: 4 of 4 trials",
    ]


def test_a_metric_that_a_pilot_does_not_have_stays_unknown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        contrast_power, "last_metrics", pilot(lambda params: {"val/accuracy": math.nan})
    )
    (power,) = contrast_powers(planned(), [], 3, lambda line: None)
    assert power.spread is None


@pytest.mark.slow
def test_a_pilot_trains_a_whole_trial() -> None:
    cell = planned(2).cells[1]
    metrics = last_metrics(cell.config("search", {}, 1).to_params(), 1, False)
    assert not isinstance(metrics, str)
    assert 0 <= metrics["val/accuracy"] <= 1 and "val/forgetting" in metrics
