"""When each layer runs out of free dimensions: foretold from its first tasks, beside what was seen.

A layer is exhausted once it has fewer free dimensions than the rank. The forecast goes on at the
rate of the later half of the tasks that it may see; its interval covers that line and every curve
over all of these tasks that they do not rule out, one that levels off among them. None of these
knows of a threshold that rises until the last task (method.epsilon_end), which fills the space
faster towards the end: `rising` tells.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from study.analysis import scaling
from study.analysis.entities import TrialRecord
from study.analysis.evidence import NotEnough, count
from study.analysis.trend_models import LINEAR
from study.analysis.trends import LEAST_POINTS, Trend, fit_trend

FREE, SHORT = "subspace/dim_free", "subspace/exhausted_layers"
THRESHOLD = "subspace/threshold"
LEAST_TASKS = 5
# How many times the tasks of the study a forecast looks ahead.
AHEAD = 10
# Dimensions that rounding takes off a curve.
ROUNDING = 1e-6
AS_PREDICTED, OPEN = "as predicted", "cannot be told yet"
EARLIER, LATER, MIXED = "earlier than predicted", "later than predicted", "mixed"
ALREADY, NO_FORECAST = "already exhausted", "no forecast"


@dataclass(frozen=True)
class Observed:
    """The task after which a trial's layer was exhausted first; None: not within its tasks."""

    seed: int
    task: int | None


@dataclass(frozen=True)
class LayerForecast:
    """A layer's forecast from tasks 1 … `fitted_to`, beside what happened until task `tasks`.

    `task` is the first one after which fewer than `rank` dimensions are foretold to be free, and
    [low, high] the 95 % interval of that task in one trial; None is not within `horizon` tasks.
    `extrapolated` says that `task` lies beyond all tasks that were run. `verdict` compares the
    interval with the trials; `reason` says why there is no forecast. `model` says at which rate,
    `rising` that the layer's threshold was not the same in all tasks.
    """

    layer: str
    rank: int
    fitted_to: int
    tasks: int
    model: str
    task: float | None
    low: float | None
    high: float | None
    horizon: int
    observed: tuple[Observed, ...]
    verdict: str
    extrapolated: bool
    reason: str = ""
    rising: bool = False


def exhaustion_forecasts(
    trials: Sequence[TrialRecord], share: float = 0.5
) -> list[LayerForecast] | NotEnough:
    """One forecast for each layer of the completed trials of one setting.

    Args:
        trials: a cell's confirmations.
        share: part of the tasks that is fitted, in (0, 1]; with 1 a forecast looks beyond them.

    Raises:
        ValueError: if `share` is outside (0, 1].
    """
    if not 0 < share <= 1:
        raise ValueError(f"share must be in (0, 1], but got {share=}.")
    done = [one for one in trials if one.status == "completed" and one.tasks]
    names = scaling.layers(done)
    ranks = [one.params.get("method.rank") for one in done]
    if not names or not isinstance(ranks[0], int):
        return NotEnough("no free dimensions of layers and no rank were recorded")
    if len(set(ranks)) > 1 or any(one.params.get("method.rank_steps") for one in done):
        return NotEnough("the rank is not the same in all tasks and trials")
    tasks = min(one.tasks[-1].task for one in done)
    fitted_to = math.ceil(share * tasks)
    if fitted_to < LEAST_TASKS:
        return NotEnough(f"{count(fitted_to, 'task')} to fit, and a forecast needs {LEAST_TASKS}")
    return [_forecast(done, layer, ranks[0], fitted_to, tasks) for layer in names]


def forecast_text(one: LayerForecast) -> str:
    """A forecast in a sentence."""
    seen = [other.task for other in one.observed]
    known = sorted(task for task in seen if task is not None)
    happened = f"{len(known)} of {count(len(seen), 'trial')} ran out within {one.tasks} tasks"
    if known:
        first_and_last = dict.fromkeys((known[0], known[-1]))
        happened += f" (after task {' to '.join(map(str, first_and_last))})"
    if one.reason:
        return f"{one.layer}: {one.verdict}, {one.reason}; {happened}."
    ends = [_task_text(end, one.horizon) for end in (one.task, one.low, one.high)]
    beyond = ", extrapolated" if one.extrapolated else ""
    rising = "; the threshold changes with the task, which no forecast knows" if one.rising else ""
    return (
        f"{one.layer}: {one.model}, fewer than {one.rank} free dimensions {ends[0]} (95 % interval "
        f"for one trial: from {ends[1]} to {ends[2]}{beyond}{rising}); {happened}: {one.verdict}."
    )


def _forecast(
    trials: Sequence[TrialRecord], layer: str, rank: int, fitted_to: int, tasks: int
) -> LayerForecast:
    observed = tuple(Observed(one.seed, _first_short(one, layer, rank)) for one in trials)
    horizon = AHEAD * tasks

    def none(verdict: str, reason: str) -> LayerForecast:
        nothing = ("none", None, None, None, horizon, observed, verdict, False, reason)
        return LayerForecast(layer, rank, fitted_to, tasks, *nothing)

    early = [one for one in observed if one.task is not None and one.task <= fitted_to]
    if early:
        return none(ALREADY, f"{count(len(early), 'trial')} within the first {fitted_to} tasks")
    curves = {
        one.seed: {
            float(task): dims
            for task, dims in one.series(f"{FREE}/{layer}").items()
            if task <= fitted_to
        }
        for one in trials
    }
    ahead = range(fitted_to + 1, horizon + 1)
    since = fitted_to - max(fitted_to // 2, LEAST_POINTS) + 1
    recent = {
        seed: {t: one for t, one in own.items() if t >= since} for seed, own in curves.items()
    }
    steady = fit_trend(recent, (0.0, math.inf), ahead, models=(LINEAR,))
    free = fit_trend(curves, (0.0, math.inf), ahead)
    if isinstance(steady, NotEnough):
        return none(NO_FORECAST, steady.reason)
    assert isinstance(free, Trend)
    task, low, high = _crossings(steady, free, rank, fitted_to)
    verdicts = {_verdict(one.task, low, high, tasks) for one in observed}
    return LayerForecast(
        layer=layer,
        rank=rank,
        fitted_to=fitted_to,
        tasks=tasks,
        model=f"at the rate of tasks {since} to {fitted_to}",
        task=task,
        low=low,
        high=high,
        horizon=horizon,
        observed=observed,
        verdict=_together(verdicts),
        extrapolated=task is None or task > tasks,
        rising=any(len(set(one.series(f"{THRESHOLD}/{layer}").values())) > 1 for one in trials),
    )


def _first_short(trial: TrialRecord, layer: str, rank: int) -> int | None:
    """The trial's own word counts: a relaxed memory has the rank free and is exhausted still."""
    told = trial.series(f"{SHORT}/{layer}")
    short = [task for task, flag in told.items() if flag > 0]
    if not told:
        free = trial.series(f"{FREE}/{layer}")
        short = [task for task, dims in free.items() if dims < rank]
    return min(short, default=None)


def _crossings(
    steady: Trend, free: Trend, rank: int, fitted_to: int
) -> tuple[float | None, float | None, float | None]:
    """First tasks ahead where the line, and the lower and upper ends of both bands, are below."""
    least = rank - ROUNDING
    ahead = [one for one in steady.predictions if one.x > fitted_to]
    both = [*ahead, *(one for one in free.predictions if one.x > fitted_to)]
    tops: dict[float, float] = {}
    for one in both:
        tops[one.x] = max(one.trial_high, tops.get(one.x, -math.inf))
    return (
        next((one.x for one in ahead if one.value < least), None),
        min((one.x for one in both if one.trial_low < least), default=None),
        next((x for x, top in tops.items() if top < least), None),
    )


def _verdict(seen: int | None, low: float | None, high: float | None, tasks: int) -> str:
    least, most = (math.inf if end is None else end for end in (low, high))
    if seen is not None:
        return EARLIER if seen < least else LATER if seen > most else AS_PREDICTED
    if least > tasks:
        return AS_PREDICTED
    return LATER if most <= tasks else OPEN


def _together(verdicts: set[str]) -> str:
    """One word for all trials."""
    if len(verdicts) == 1:
        return next(iter(verdicts))
    return AS_PREDICTED if verdicts <= {AS_PREDICTED, OPEN} else MIXED


def _task_text(task: float | None, horizon: int) -> str:
    return f"not within {horizon} tasks" if task is None else f"after task {task:g}"
