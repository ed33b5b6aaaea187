"""When each layer runs out of free dimensions: foretold from its first tasks, beside what was seen.

A layer is exhausted once it has fewer free dimensions than the rank. The forecast goes on at the
rate of the later half of the tasks that it may see; its interval covers that line and every curve
over all of these tasks that they do not rule out, one that levels off among them. None of these
knows of a threshold that rises until the last task (method.epsilon_end), which fills the space
faster towards the end: `rising` tells.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from study.analysis.curves import FREE, exhausted, layers
from study.analysis.trend_models import LINEAR
from study.analysis.trends import LEAST_POINTS, Trend, fit_trend
from study.evidence import NotEnough, count
from study.ledger import TrialRecord

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


def exhaustion_forecasts(trials: Sequence[TrialRecord]) -> list[LayerForecast] | NotEnough:
    """One forecast for each layer of the completed trials of one setting, from half its tasks."""
    done = [trial for trial in trials if trial.status == "completed" and trial.tasks]
    names = layers(done)
    ranks = [trial.params.get("method.rank") for trial in done]
    if not names or not isinstance(ranks[0], int):
        return NotEnough("no free dimensions of layers and no rank were recorded")
    if len(set(ranks)) > 1 or any(trial.params.get("method.rank_steps") for trial in done):
        return NotEnough("the rank is not the same in all tasks and trials")
    tasks = min(trial.tasks[-1].task for trial in done)
    fitted_to = math.ceil(tasks / 2)
    if fitted_to < LEAST_TASKS:
        return NotEnough(f"{count(fitted_to, 'task')} to fit, and a forecast needs {LEAST_TASKS}")
    firsts = [(trial.seed, exhausted(trial)) for trial in done]
    observed = {
        layer: tuple(Observed(seed, first.get(layer)) for seed, first in firsts) for layer in names
    }
    return [_forecast(done, *own, ranks[0], fitted_to, tasks) for own in observed.items()]


def _forecast(
    trials: Sequence[TrialRecord],
    layer: str,
    observed: tuple[Observed, ...],
    rank: int,
    fitted_to: int,
    tasks: int,
) -> LayerForecast:
    horizon = AHEAD * tasks

    places = (None, None, None)
    none = LayerForecast(
        layer, rank, fitted_to, tasks, "none", *places, horizon, observed, NO_FORECAST, False
    )
    early = [seen for seen in observed if seen.task is not None and seen.task <= fitted_to]
    if early:
        reason = f"{count(len(early), 'trial')} within the first {fitted_to} tasks"
        return replace(none, verdict=ALREADY, reason=reason)
    curves = {
        trial.seed: {
            float(task): dims
            for task, dims in trial.series(f"{FREE}/{layer}").items()
            if task <= fitted_to
        }
        for trial in trials
    }
    ahead = range(fitted_to + 1, horizon + 1)
    since = fitted_to - max(fitted_to // 2, LEAST_POINTS) + 1
    recent = {
        seed: {t: dims for t, dims in own.items() if t >= since} for seed, own in curves.items()
    }
    steady = fit_trend(recent, (0.0, math.inf), ahead, models=(LINEAR,))
    free = fit_trend(curves, (0.0, math.inf), ahead)
    if isinstance(steady, NotEnough):
        return replace(none, reason=steady.reason)
    assert isinstance(free, Trend)
    task, low, high = _crossings(steady, free, rank, fitted_to)
    verdicts = {_verdict(seen.task, low, high, tasks) for seen in observed}
    return replace(
        none,
        model=f"at the rate of tasks {since} to {fitted_to}",
        task=task,
        low=low,
        high=high,
        verdict=_together(verdicts),
        extrapolated=task is None or task > tasks,
        rising=any(len(set(trial.series(f"{THRESHOLD}/{layer}").values())) > 1 for trial in trials),
    )


def _crossings(
    steady: Trend, free: Trend, rank: int, fitted_to: int
) -> tuple[float | None, float | None, float | None]:
    """First tasks ahead where the line, and the lower and upper ends of both bands, are below."""
    least = rank - ROUNDING
    ahead = [point for point in steady.predictions if point.x > fitted_to]
    both = [*ahead, *(point for point in free.predictions if point.x > fitted_to)]
    tops: dict[float, float] = {}
    for point in both:
        tops[point.x] = max(point.trial_high, tops.get(point.x, -math.inf))
    return (
        next((point.x for point in ahead if point.value < least), None),
        min((point.x for point in both if point.trial_low < least), default=None),
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
