import math
from collections.abc import Sequence
from itertools import product

import numpy as np
import pytest
from optuna.distributions import IntDistribution

from study.analysis.rank import BestRank, RankTable, interaction, rank_sensitivity, rank_tables
from study.evidence.intervals import NotEnough
from tests.study.report.made_up_trials import binomial_band, cell, enough, study, trial

RANKS, TASKS = (4, 8, 16, 32), (5, 10, 20)
RANK_SLOPE, TASK_SLOPE = 0.02, -0.05


def table(
    random: np.random.Generator,
    change: float = 0.0,
    noise: float = 0.01,
    level: float = 0.03,
    seeds: int = 3,
    tasks: Sequence[int] = TASKS,
) -> RankTable:
    """Accuracies with known slopes; `change` is that of the rank's slope per doubling of tasks.

    Every seed has its own level at each number of tasks, as splits have: they differ by `level`.
    """

    def truth(rank: int, count: int) -> float:
        slope = RANK_SLOPE + change * math.log2(count)
        return slope * math.log2(rank) + TASK_SLOPE * math.log2(count)

    levels = random.normal(0.8, level, (seeds, len(tasks)))
    values = {
        rank: {
            count: {
                seed: truth(rank, count) + float(levels[seed, at] + random.normal(0, noise))
                for seed in range(seeds)
            }
            for at, count in enumerate(tasks)
        }
        for rank in RANKS
    }
    return RankTable("all", "test/accuracy", values, higher_is_better=True)


def test_tables_are_made_of_cells_that_differ_in_rank_and_tasks_alone() -> None:
    cells, trials = [], []
    for data, rank, count in product(("one", "other"), (4, 8), (5, 10)):
        name = f"{data} {rank} {count}"
        key = {"data.name": data, "method.rank": rank, "data.tasks": count}
        cells.append(cell(name, key, count))
        trials += [
            trial([{"test/accuracy": rank + count / 100 + seed / 1000}], seed, cell=name)
            for seed in range(2)
        ]
    cells.append(cell("searched", {"data.name": "one"}, 5, method__rank=IntDistribution(2, 16)))
    tables = rank_tables(study(trials, cells))
    assert [own.label for own in tables] == ["one", "other"]
    assert tables[0].values[8][10] == pytest.approx({0: 8.1, 1: 8.101})
    assert (tables[0].ranks, tables[0].tasks) == ((4, 8), (5, 10))
    assert tables[0].higher_is_better
    assert not RankTable("", "test/forgetting", {}, False).higher_is_better
    assert rank_tables(study(trials[:4], cells), "test/forgetting") == []


def test_a_slope_per_doubling_is_found_again() -> None:
    exact = table(np.random.default_rng(0), noise=0.0)
    for effect in rank_sensitivity(exact):
        assert effect.slope.mean == pytest.approx(RANK_SLOPE)
        assert effect.best == 32
        assert [rank for rank, _ in effect.by_rank] == list(RANKS)
    falling = RankTable("", "test/forgetting", exact.values, higher_is_better=False)
    assert [effect.best for effect in rank_sensitivity(falling)] == [4, 4, 4]


def test_slopes_need_common_seeds() -> None:
    values = {4: {5: {0: 0.5, 1: 0.6}}, 8: {5: {2: 0.5, 3: 0.6}}}
    (effect,) = rank_sensitivity(RankTable("", "test/accuracy", values, True))
    assert math.isnan(effect.slope.mean)
    assert effect.best is None


def test_equal_accuracies_at_all_ranks_are_no_effect_of_the_rank() -> None:
    # At these ranks 0.7 leaves a slope of −8e-17, the same for every seed.
    levels = {5: 0.7, 10: 0.6, 20: 0.1 + 0.2}
    values = {
        rank: {count: dict.fromkeys(range(3), level) for count, level in levels.items()}
        for rank in (4, 8, 32)
    }
    flat = RankTable("", "test/accuracy", values, True)
    for effect in rank_sensitivity(flat):
        assert (effect.slope.mean, effect.slope.low, effect.slope.high) == (0, 0, 0)
    result = enough(interaction(flat))
    assert (result.slope_change.mean, result.slope_change.std) == (0, 0)
    assert result.shares["rank"] == result.shares["interaction"] == 0


@pytest.mark.slow
def test_the_intervals_of_slopes_and_of_their_change_cover_the_truth() -> None:
    random = np.random.default_rng(0)
    simulations, slopes, changes = 400, 0, 0
    for _ in range(simulations):
        values = table(random, change=0.004)
        effect = rank_sensitivity(values)[-1].slope
        truth = RANK_SLOPE + 0.004 * math.log2(TASKS[-1])
        slopes += effect.low <= truth <= effect.high
        change = enough(interaction(values)).slope_change
        changes += change.low <= 0.004 <= change.high
    least, most = binomial_band(0.95, simulations)
    assert least <= slopes / simulations <= most, slopes / simulations
    assert least <= changes / simulations <= most, changes / simulations


def test_an_interaction_is_found_and_measured() -> None:
    result = enough(interaction(table(np.random.default_rng(0), change=-0.015, noise=0.002)))
    assert result.slope_change.low <= -0.015 <= result.slope_change.high
    assert result.slope_change.high < 0
    # Slopes per doubling of the rank: 0.02 − 0.015 log2(tasks) is below 0 from 5 tasks on.
    assert result.best == tuple(BestRank(count, 4) for count in TASKS)


def test_the_best_rank_is_told_for_each_number_of_tasks() -> None:
    change = -RANK_SLOPE / math.log2(10)
    clear = enough(interaction(table(np.random.default_rng(1), change, 0.0005, tasks=(2, 10, 50))))
    assert [best.rank for best in clear.best][::2] == [32, 4]


def test_shares_are_those_of_the_truth() -> None:
    exact = table(np.random.default_rng(0), change=0.01, noise=1e-6, level=0.0)
    shares = enough(interaction(exact)).shares
    ranks, tasks = np.log2(RANKS), np.log2(TASKS)
    parts = {
        "rank": (RANK_SLOPE + 0.01 * tasks.mean()) ** 2 * ranks.var(),
        "tasks": (TASK_SLOPE + 0.01 * ranks.mean()) ** 2 * tasks.var(),
        "interaction": 0.01**2 * ranks.var() * tasks.var(),
    }
    expected = {name: part / sum(parts.values()) for name, part in parts.items()}
    assert dict(shares) == pytest.approx(expected, rel=1e-3)


def test_noise_alone_is_taken_off_the_shares() -> None:
    random = np.random.default_rng(0)
    noise = 0.05
    shares = [enough(interaction(table(random, noise=noise))).shares for _ in range(200)]
    ranks, tasks = np.log2(RANKS), np.log2(TASKS)
    # What the means of 3 seeds would show without: their noise over 6 degrees of freedom of 12.
    shown = noise**2 / 3 * 6 / 12
    true = RANK_SLOPE**2 * ranks.var() + TASK_SLOPE**2 * tasks.var() + 0.03**2 / 3 * 2 / 3
    assert np.mean([own["interaction"] for own in shares]) < 0.6 * shown / (shown + true)


def test_too_little_is_refused_with_the_reason() -> None:
    values = table(np.random.default_rng(0)).values
    two = table(np.random.default_rng(0), seeds=2).values
    for own, reason in (
        ({rank: {5: own[5]} for rank, own in values.items()}, "4 ranks by 1 number of tasks"),
        ({**values, 8: {5: values[8][5]}}, "no result for rank 8 with 10 tasks"),
        (two, "2 seeds with all results, 3 needed"),
    ):
        assert interaction(RankTable("", "", own, True)) == NotEnough(reason)
