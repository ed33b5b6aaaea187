import dataclasses
import os
import statistics
import subprocess
import sys
from typing import Any

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState

from study.planning.spec import SAMPLERS
from study.search.cell_search import CellSearch
from study.search.samplers import LEARNING, Known, Sampling
from tests.study.search.searching import CONDITIONAL, FINITE, FIRST, cell_of, go_on, proposals
from tests.study.small_study import small_plan


@pytest.mark.slow
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_proposals_depend_on_numbers_and_results_only(sampler: str) -> None:
    # GP learns from its third trial on here, and takes its time.
    count = 5 if sampler == "gp" else 12
    space = FINITE if sampler == "grid" else "all"
    cell, spec = cell_of(sampler=sampler, trials=8 if sampler == "gp" else 18, search=space)

    def proposed(sign: int) -> list[dict[str, Any]]:
        search = CellSearch(cell, spec)
        found = []
        for at in range(count):
            proposal = search.ask()
            assert proposal is not None
            found.append(dict(proposal.trial.searched))
            curve = {4: {"val/accuracy": sign * float(at % 4)}}
            search.tell(proposal.trial.id, curve, "completed")
        return found

    rising = proposed(1)
    assert proposed(1) == rising
    assert (proposed(-1) == rising) == (sampler not in LEARNING)


@pytest.mark.process
@pytest.mark.parametrize("sampler", ["multivariate_tpe", "nsga2", "gp"])
def test_another_process_proposes_the_same(sampler: str) -> None:
    trials = 5 if sampler == "gp" else 16
    call = f"test_samplers.tried({sampler!r}, {trials})"
    other = subprocess.run(
        [sys.executable, "-c", f"from tests.study.search import test_samplers; print({call})"],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONHASHSEED": "1"},
    )
    assert other.stdout == f"{tried(sampler, trials)}\n"


def tried(sampler: str, trials: int, width: int = 2, **changes: Any) -> list[Any]:
    """What is proposed in a search of `width` trials at a time."""
    cell, spec = cell_of(sampler=sampler, trials=trials, **changes)
    events = go_on(CellSearch(cell, spec), spec, [], width)
    return [proposal.trial.searched for proposal in proposals(events)]


SPACE = {"x": FloatDistribution(0.0, 1.0), "y": FloatDistribution(0.0, 1.0)}


def sampling_of(kind: str, trials: int = 12) -> Sampling:
    return Sampling(kind=kind, space=SPACE, conditions={}, signs=(1,), trials=trials, name="cell")


def known_of(sampling: Sampling, infeasible_above: float) -> list[Known]:
    """Trials that are better the larger x is; above a limit they do not fit into memory."""
    found: list[Known] = []
    for at in range(10):
        settings = {"x": at / 9, "y": (at * 7 % 10) / 9}
        attrs = sampling.place(0, found)
        if settings["x"] > infeasible_above:
            found.append(Known(settings, attrs, "infeasible"))
        else:
            found.append(Known(settings, attrs, "completed", (settings["x"],)))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("kind", LEARNING)
def test_samplers_that_learn_avoid_what_does_not_fit_into_memory(kind: str) -> None:
    sampling = sampling_of(kind)

    def mean_x(infeasible_above: float) -> float:
        known = known_of(sampling, infeasible_above)
        count = 4 if kind == "gp" else 24
        return statistics.fmean(sampling.propose(at, known)[0]["x"] for at in range(count))

    assert mean_x(0.5) < mean_x(1.0) - 0.15


@pytest.mark.parametrize("kind", LEARNING)
def test_a_search_in_which_nothing_fits_into_memory_goes_on(kind: str) -> None:
    sampling = sampling_of(kind)
    assert set(sampling.propose(10, known_of(sampling, -1.0))[0]) == {"x", "y"}


def test_constraints_are_set_only_where_something_is_infeasible() -> None:
    sampling = sampling_of("gp")
    assert not any(trial.constraints for trial in sampling._trials(known_of(sampling, 1.0)))
    trials = sampling._trials(known_of(sampling, 0.5))
    found = {(trial.constraints["device_memory"] > 0, trial.value == 0.0) for trial in trials[1:]}
    assert found == {(False, False), (True, True)}


@pytest.mark.parametrize("kind", ["tpe", "gp"])
def test_running_trials_are_known(kind: str) -> None:
    sampling = sampling_of(kind)
    known = known_of(sampling, 1.0)
    alone = sampling.propose(3, known)[0]
    running = [*known, Known(alone, {}, "running")]
    assert sampling._trials(running)[-1].state == TrialState.RUNNING
    assert sampling.propose(3, running)[0] != alone


def test_pruned_trials_are_known_by_where_they_stood() -> None:
    (trial,) = sampling_of("tpe")._trials(
        [Known({"x": 0.5, "y": 0.5}, {}, "pruned", stood=(3, 0.25))]
    )
    assert (trial.state, trial.intermediate_values) == (TrialState.PRUNED, {3: 0.25})


def test_optuna_has_each_sampler_as_it_is_meant() -> None:
    made = {kind: sampling_of(kind)._sampler(1) for kind in (*LEARNING, "random")}
    names = [type(sampler).__name__ for sampler in made.values()]
    assert names == ["TPESampler", "TPESampler", "GPSampler", "NSGAIISampler", "RandomSampler"]
    study = optuna.create_study()
    study.add_trials(sampling_of("tpe")._trials(known_of(sampling_of("tpe"), 1.0)))
    together = {}
    for kind in ("tpe", "multivariate_tpe"):
        study.sampler = made[kind]
        together[kind] = made[kind].infer_relative_search_space(study, study.trials[-1])
    assert together == {"tpe": {}, "multivariate_tpe": SPACE}
    for trials, size in ((8, 4), (40, 10)):
        sampler: Any = sampling_of("nsga2", trials)._sampler(1)
        assert sampler.population_size == size


def test_the_grid_has_every_point_once() -> None:
    cell, spec = cell_of(sampler="grid", trials=18, search=FINITE)
    search = CellSearch(cell, spec, [{"method.rank": 2}])
    events = go_on(search, spec, [], 2)
    points = [tuple(proposal.trial.searched.values()) for proposal in proposals(events)]
    assert len(points) == len(set(points)) == 18
    assert {epsilon for _, _, epsilon in points} == {0.5, 0.6, 0.7}
    assert points != sorted(points) and search.passed_over == []
    assert search.ask() is None and search.over


def test_points_of_the_grid_that_do_not_fit_together_are_left_out() -> None:
    shares = {"low": 0.5, "high": 0.9, "step": 0.1}
    cell, spec = cell_of(sampler="grid", trials=10, search={"inflora": {"method.epsilon": shares}})
    space = {"method.epsilon": cell.space["method.epsilon"]}
    space["method.epsilon_end"] = FloatDistribution(0.5, 0.9, step=0.4)
    search = CellSearch(dataclasses.replace(cell, space=space), spec)
    points = [tuple(proposal.trial.searched.values()) for proposal in iter(search.ask, None)]
    assert sorted(points) == [(0.5, 0.5), *((low, 0.9) for low in (0.5, 0.6, 0.7, 0.8, 0.9))]
    assert search.refusal is not None


def test_quasi_random_points_go_on_after_settings_that_were_tried_first() -> None:
    cell, spec = cell_of(sampler="qmc", trials=8)
    events = go_on(CellSearch(cell, spec, FIRST[:1]), spec, [], 1)
    after = [proposal.trial.searched for proposal in proposals(events)]
    assert after[1:] == tried("qmc", 8)[:-1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"sampler": "grid"},
            r"cell method.name=inflora,data.tasks=4: method.epsilon must have choices, whole "
            r"numbers or a step for sampler grid, but it is 0.8 to 0.99\.",
        ),
        (
            {"sampler": "grid", "search": FINITE, "trials": 17},
            r"cell .*: trials must be at least the 18 points of the grid \(3 of method.rank × 2 "
            r"of method.energy × 3 of method.epsilon\) for sampler grid, but got 17\.",
        ),
        *(
            (
                {"sampler": sampler, "search": CONDITIONAL},
                r"cell .*: sampler must be one of \['tpe', 'multivariate_tpe', 'nsga2', 'random'\] "
                rf"where a key has `when`, as method.epsilon has, but got '{sampler}'\.",
            )
            for sampler in ("gp", "grid", "qmc")
        ),
    ],
)
def test_a_space_that_the_sampler_cannot_search_is_refused(
    changes: dict[str, Any], message: str
) -> None:
    grid = {"method.name": ["inflora"], "data.tasks": [4]}
    with pytest.raises(ValueError, match=rf"^small.yaml: {message}"):
        small_plan(grid=grid, **changes)
