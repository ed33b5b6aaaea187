import math
from collections.abc import Sequence
from itertools import product

import numpy as np
import pytest

from study.analysis.evidence import NotEnough
from study.analysis.interaction import BestRank, Interaction, interaction
from study.analysis.rank_sensitivity import rank_sensitivity
from study.analysis.rank_tables import RankTable, rank_tables
from tests.study.analysis.made_up_trials import binomial_band, cell, study, trial

RANKS, TASKS = (4, 8, 16, 32), (5, 10, 20)
RANK_SLOPE, TASK_SLOPE = 0.02, -0.05


def table(
    random: np.random.Generator,
    change: float = 0.0,
    noise: float = 0.01,
    seeds: int = 3,
    tasks: Sequence[int] = TASKS,
    ranks: Sequence[int] = RANKS,
) -> RankTable:
    """Accuracies with known slopes; `change` is that of the rank's slope per doubling of tasks.

    Every seed has its own level at each number of tasks, as splits have.
    """
    levels = random.normal(0.8, 0.03, (seeds, len(tasks)))
    values = {
        rank: {
            count: {
                seed: float(
                    levels[seed, at]
                    + RANK_SLOPE * math.log2(rank)
                    + TASK_SLOPE * math.log2(count)
                    + change * math.log2(rank) * math.log2(count)
                    + random.normal(0, noise)
                )
                for seed in range(seeds)
            }
            for at, count in enumerate(tasks)
        }
        for rank in ranks
    }
    return RankTable("all", "test/accuracy", values, higher_is_better=True)


def of(found: Interaction | NotEnough) -> Interaction:
    assert isinstance(found, Interaction), found
    return found


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
    cells.append(cell("searched", {"data.name": "one"}, 5, method__rank="2 to 16"))
    found = rank_tables(study(trials, cells))
    assert len(found) == 2
    assert [one.label for one in found] == ["one", "other"]
    assert found[0].values[8][10] == pytest.approx({0: 8.1, 1: 8.101})
    assert (found[0].ranks, found[0].tasks) == ((4, 8), (5, 10))
    assert found[0].higher_is_better
    assert not RankTable("", "test/forgetting", {}, False).higher_is_better
    assert rank_tables(study(trials[:4], cells), "test/forgetting") == []


def test_a_slope_per_doubling_is_found_again() -> None:
    exact = table(np.random.default_rng(0), noise=0.0)
    for one in rank_sensitivity(exact):
        assert one.slope.mean == pytest.approx(RANK_SLOPE)
        assert one.best == 32
        assert [rank for rank, _ in one.by_rank] == list(RANKS)
    falling = RankTable("", "test/forgetting", exact.values, higher_is_better=False)
    assert [one.best for one in rank_sensitivity(falling)] == [4, 4, 4]


def test_slopes_need_common_seeds() -> None:
    values = {4: {5: {0: 0.5, 1: 0.6}}, 8: {5: {2: 0.5, 3: 0.6}}}
    (one,) = rank_sensitivity(RankTable("", "test/accuracy", values, True))
    assert math.isnan(one.slope.mean)
    assert one.best is None
    assert not one.enough_evidence


def test_equal_accuracies_at_all_ranks_are_no_effect_of_the_rank() -> None:
    # At these ranks 0.7 leaves a slope of −8e-17, the same for every seed.
    levels = {5: 0.7, 10: 0.6, 20: 0.1 + 0.2}
    values = {
        rank: {count: dict.fromkeys(range(3), level) for count, level in levels.items()}
        for rank in (4, 8, 32)
    }
    flat = RankTable("", "test/accuracy", values, True)
    for one in rank_sensitivity(flat):
        assert one.slope.mean == 0
        assert one.p == 1.0
        assert not one.enough_evidence
    found = of(interaction(flat))
    assert found.p == 1.0
    assert not found.enough_evidence and not found.best_differs
    assert found.slope_change.mean == 0
    assert found.shares["rank"] == found.shares["interaction"] == 0


def test_ranks_that_cross_by_the_same_on_every_seed_are_not_told_apart() -> None:
    values = {
        rank: {
            count: {seed: 0.5 + 0.1 * seed + sign * 0.01 for seed in range(3)}
            for count, sign in signs.items()
        }
        for rank, signs in {4: {5: 1, 20: -1}, 8: {5: -1, 20: 1}}.items()
    }
    found = of(interaction(RankTable("", "test/accuracy", values, True)))
    assert not found.best_differs


def test_the_intervals_of_slopes_and_of_their_change_cover_the_truth() -> None:
    random = np.random.default_rng(0)
    simulations, slopes, changes = 400, 0, 0
    for _ in range(simulations):
        one = table(random, change=0.004)
        effect = rank_sensitivity(one)[-1].slope
        truth = RANK_SLOPE + 0.004 * math.log2(TASKS[-1])
        slopes += effect.low <= truth <= effect.high
        change = of(interaction(one, draws=1)).slope_change
        changes += change.low <= 0.004 <= change.high
    least, most = binomial_band(0.95, simulations)
    assert least <= slopes / simulations <= most, slopes / simulations
    assert least <= changes / simulations <= most, changes / simulations


def test_without_an_interaction_the_permutation_test_keeps_its_level() -> None:
    random = np.random.default_rng(0)
    simulations = 400
    found = [of(interaction(table(random))) for _ in range(simulations)]
    assert (
        sum(one.enough_evidence for one in found) / simulations
        <= binomial_band(0.05, simulations)[1]
    )
    assert sum(one.best_differs for one in found) / simulations <= 0.01
    assert np.mean([one.shares["interaction"] for one in found]) < 0.01


def test_an_interaction_is_found_and_measured() -> None:
    one = of(interaction(table(np.random.default_rng(0), change=-0.015, noise=0.002)))
    assert one.enough_evidence
    assert one.slope_change.low <= -0.015 <= one.slope_change.high
    assert one.slope_change.high < 0
    # Slopes per doubling of the rank: 0.02 − 0.015 log2(tasks) is below 0 from 5 tasks on.
    assert one.best == tuple(BestRank(count, 4) for count in TASKS)
    assert not one.best_differs
    assert "not enough evidence that another rank is best" in one.verdict


def test_the_best_rank_differs_only_where_each_is_better_for_certain() -> None:
    change = -RANK_SLOPE / math.log2(10)
    clear = of(
        interaction(table(np.random.default_rng(1), change, 0.0005, seeds=5, tasks=(2, 10, 50)))
    )
    assert [one.rank for one in clear.best][::2] == [32, 4]
    assert clear.best_differs
    assert clear.verdict == "the best rank differs with the number of tasks"
    blurred = of(
        interaction(table(np.random.default_rng(1), change, 0.1, seeds=3, tasks=(2, 10, 50)))
    )
    assert not blurred.best_differs
    assert blurred.verdict == "not enough evidence"


def test_shares_are_those_of_the_truth() -> None:
    exact = table(np.random.default_rng(0), change=0.01, noise=1e-6, seeds=3)
    flat = {
        rank: {
            count: {seed: value - 0.0 for seed, value in row.items()} for count, row in own.items()
        }
        for rank, own in exact.values.items()
    }
    # Levels of seeds and splits taken away: the truth alone is left.
    for count, seed in product(TASKS, range(3)):
        mean = sum(flat[rank][count][seed] for rank in RANKS) / len(RANKS)
        for rank in RANKS:
            flat[rank][count][seed] += TASK_SLOPE * math.log2(count) - mean
    found = of(interaction(RankTable("", "test/accuracy", flat, True))).shares
    ranks, tasks = np.log2(RANKS), np.log2(TASKS)
    middle = RANK_SLOPE + 0.01 * tasks.mean()
    parts = {
        "rank": middle**2 * ranks.var(),
        "tasks": TASK_SLOPE**2 * tasks.var(),
        "interaction": 0.01**2 * ranks.var() * tasks.var(),
    }
    expected = {name: one / sum(parts.values()) for name, one in parts.items()}
    assert dict(found) == pytest.approx(expected, rel=1e-3)


def test_noise_alone_is_taken_off_the_shares() -> None:
    random = np.random.default_rng(0)
    noise = 0.05
    found = [of(interaction(table(random, noise=noise), draws=1)).shares for _ in range(200)]
    ranks, tasks = np.log2(RANKS), np.log2(TASKS)
    # What the means of 3 seeds would show without: their noise over 6 degrees of freedom of 12.
    shown = noise**2 / 3 * 6 / 12
    true = RANK_SLOPE**2 * ranks.var() + TASK_SLOPE**2 * tasks.var() + 0.03**2 / 3 * 2 / 3
    assert np.mean([one["interaction"] for one in found]) < 0.6 * shown / (shown + true)


def test_a_design_too_small_for_the_test_says_so() -> None:
    small = of(interaction(table(np.random.default_rng(0), 0.05, 1e-4, tasks=(5, 20))))
    assert small.least_p == 0.25
    assert small.p == 0.25
    assert not small.enough_evidence
    # The contrast of slopes speaks all the same.
    assert small.slope_change.low > 0


def test_many_permutations_are_drawn_with_a_fixed_seed() -> None:
    many = table(np.random.default_rng(0), 0.01, 1e-4, seeds=5, tasks=(5, 10, 20, 50))
    found = of(interaction(many, draws=199))
    # No order is as extreme as the one that was seen, which counts as one.
    assert found.p == found.least_p == pytest.approx(1 / 200)
    assert found == of(interaction(many, draws=199))


def test_too_little_is_refused_with_the_reason() -> None:
    full = table(np.random.default_rng(0))
    one_count = {rank: {5: own[5]} for rank, own in full.values.items()}
    assert interaction(RankTable("", "", one_count, True)) == NotEnough(
        "4 ranks by 1 number of tasks"
    )
    holed = {
        rank: {c: s for c, s in own.items() if (rank, c) != (8, 10)}
        for rank, own in full.values.items()
    }
    assert interaction(RankTable("", "", holed, True)) == NotEnough(
        "no result for rank 8 with 10 tasks"
    )
    two = table(np.random.default_rng(0), seeds=2)
    assert interaction(two) == NotEnough("2 seeds with all results, 3 needed")
