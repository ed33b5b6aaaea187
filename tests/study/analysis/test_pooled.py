"""The correlation over the cells of a data set: one rho a seed, never one a trial."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from study.analysis.correlation import Correlation
from study.analysis.entities import TrialRecord
from study.analysis.evidence import NotEnough
from study.analysis.pooled import Cloud, across_cells, cloud
from tests.study.analysis.made_up_trials import binomial_band, trial

CAUSE = "subspace/interference"


def run(cause: float, effect: float, seed: int) -> TrialRecord:
    return trial([{CAUSE: cause - 1}, {CAUSE: cause + 1, "test/forgetting": effect}], seed)


def drawn(
    random: np.random.Generator, strength: float, cells: int = 6, seeds: int = 3
) -> dict[str, list[TrialRecord]]:
    """Cells at the same level; within a seed forgetting goes with interference or does not."""
    found: dict[str, list[TrialRecord]] = {}
    for at in range(cells):
        causes = random.normal(size=seeds)
        ends = strength * causes + random.normal(size=seeds)
        pairs = zip(causes, ends, strict=True)
        found[str(at)] = [run(float(c), float(e), seed) for seed, (c, e) in enumerate(pairs)]
    return found


def test_each_seed_gives_one_rho_over_the_cells() -> None:
    cells = drawn(np.random.default_rng(0), 1.0, seeds=4)
    found = across_cells(cells)
    assert isinstance(found, Correlation)
    rhos = [
        stats.spearmanr(
            [own[seed].series(CAUSE)[1] for own in cells.values()],
            [own[seed].final("test/forgetting") or 0.0 for own in cells.values()],
        ).statistic
        for seed in range(4)
    ]
    assert found.rho == pytest.approx(np.mean(rhos))
    assert (found.n, found.over) == (4, "cells within a seed")
    assert found.p == pytest.approx(stats.ttest_1samp(rhos, 0).pvalue)


def test_a_cloud_has_a_point_for_each_trial_that_has_both() -> None:
    unfinished = replace(run(9.0, 9.0, 2), status="failed")
    cells = {"a": [run(0.5, 0.1, 0), run(0.25, 0.2, 1), unfinished], "b": [trial([{CAUSE: 1.0}])]}
    assert cloud("icons", cells) == Cloud("icons", (("a", ((0.5, 0.1), (0.25, 0.2))),))


def test_without_a_relation_it_is_rarely_found() -> None:
    random = np.random.default_rng(0)
    simulations, wrong = 500, 0
    for _ in range(simulations):
        found = across_cells(drawn(random, 0.0))
        assert isinstance(found, Correlation)
        wrong += found.enough_evidence
    assert wrong / simulations <= binomial_band(0.05, simulations)[1], wrong / simulations


def test_seeds_that_rank_all_cells_alike_have_no_interval() -> None:
    cells = {str(at): [run(at, at, seed) for seed in range(3)] for at in range(6)}
    found = across_cells(cells)
    assert isinstance(found, Correlation)
    assert found.rho == 1
    assert not found.enough_evidence


def test_too_few_cells_or_seeds_are_refused() -> None:
    four = drawn(np.random.default_rng(0), 1.0, cells=4)
    assert across_cells(four) == NotEnough("4 cells with both, 5 needed")
    six = drawn(np.random.default_rng(0), 1.0)
    six["0"] = six["0"][:2]
    assert across_cells(six) == NotEnough("2 seeds with all cells, 3 needed")
