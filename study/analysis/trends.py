"""What a metric does as tasks increase: a curve chosen by cross-validation, with its intervals.

Points of one seed's curve depend on each other, so a seed is the unit of all intervals: each seed
has its own parameters (for a curve that is linear in them those of its own fit, else to first order
around the common fit), and the interval is Student's over them. It holds for the model that was
chosen; bands over x cover all models that the data do not tell apart from it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from study.analysis.trend_models import MODELS, Array, Fit, TrendModel, fit
from study.evidence import LEAST_SEEDS, Interval, NotEnough, count, intervals

LEAST_POINTS = 3
# From this many points on, whole stretches of a curve are left out, not single points.
BLOCKS_FROM, BLOCKS = 10, 5
# Standard errors behind the best: the simplest model up to the first is chosen.
CHOSEN, PLAUSIBLE = 1.0, 2.0
# Squared errors that are none, as a share.
ROUNDING = 1e-18
UNBOUNDED = (-math.inf, math.inf)


@dataclass(frozen=True)
class Parameter:
    """A parameter with its 95 % interval over seeds; NaN ends where the data leave it open."""

    name: str
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class ModelScore:
    """How a model did on points left out: `error` is the root mean square, in the metric's unit.

    `behind` is how much its mean square is above the best one's, in standard errors over seeds. A
    model is `plausible` up to two: bands cover its own as well.
    """

    model: str
    error: float
    behind: float

    @property
    def plausible(self) -> bool:
        """Whether the data do not tell it apart from the best."""
        return self.behind <= PLAUSIBLE


@dataclass(frozen=True)
class Prediction:
    """The curve at x: [low, high] is the 95 % interval of the mean over seeds.

    [trial_low, trial_high] is that of one more seed. Both cover the intervals of every plausible
    model. `extrapolated` says that x lies beyond the data.
    """

    x: float
    value: float
    low: float
    high: float
    trial_low: float
    trial_high: float
    extrapolated: bool


@dataclass(frozen=True)
class Trend:
    """The simplest plausible model and what it says; `means` are what was measured, over seeds."""

    model: str
    formula: str
    parameters: tuple[Parameter, ...]
    scores: tuple[ModelScore, ...]
    predictions: tuple[Prediction, ...]
    means: tuple[tuple[float, Interval], ...]
    n: int
    data_range: tuple[float, float]
    validation: str


def fit_trend(
    curves: Mapping[int, Mapping[float, float]],
    bounds: tuple[float, float] = UNBOUNDED,
    at: Sequence[float] = (),
    models: Sequence[TrendModel] = MODELS,
) -> Trend | NotEnough:
    """Fits the curves of several seeds.

    Args:
        curves: seed → x → value, x above 0. Seeds that lack an x of another one are left out.
        bounds: what the metric cannot leave; predictions are cut there.
        at: where to predict, beside the x of the data.
        models: what is tried, where there are more points than parameters.
    """
    places = sorted({place for curve in curves.values() for place in curve})
    seeds = [seed for seed, curve in sorted(curves.items()) if len(curve) == len(places)]
    if len(places) < LEAST_POINTS:
        return NotEnough(f"{count(len(places), 'point')}, and a curve needs {LEAST_POINTS}")
    if len(seeds) < LEAST_SEEDS:
        return NotEnough(
            f"{count(len(seeds), 'seed')} measured at all {len(places)} points, and an interval "
            f"needs {LEAST_SEEDS}"
        )
    x = np.array(places, dtype=float)
    y = np.array([[curves[seed][place] for place in places] for seed in seeds], dtype=float)
    errors = {model.name: _left_out(model, x, y) for model in models if len(model.names) < len(x)}
    scores = _scores(errors)
    behind = {score.model: score.behind for score in scores if score.plausible}
    fits = [fit(model, x, y.mean(axis=0)) for model in models if model.name in behind]
    # The simplest first; of equally simple ones, the better one on points left out.
    fits.sort(
        key=lambda fitted: (
            behind[fitted.model.name] > CHOSEN,
            len(fitted.model.names),
            behind[fitted.model.name],
        )
    )
    chosen = fits[0]
    return Trend(
        model=chosen.model.name,
        formula=chosen.model.formula,
        parameters=_parameters(chosen, x, y),
        scores=scores,
        predictions=_predictions(fits, x, y, bounds, at),
        means=tuple(
            (place, intervals.interval(y[:, n].tolist())) for n, place in enumerate(places)
        ),
        n=len(seeds),
        data_range=(places[0], places[-1]),
        validation="left out one point at a time"
        if len(x) < BLOCKS_FROM
        else f"left out {BLOCKS} stretches of the curve in turn",
    )


def _left_out(model: TrendModel, x: Array, y: Array) -> Array:
    """Each seed's mean squared error (seeds,) on points that the fit did not see."""
    folds = np.array_split(np.arange(len(x)), len(x) if len(x) < BLOCKS_FROM else BLOCKS)
    misses = np.empty_like(y)
    for fold in folds:
        rest = np.setdiff1d(np.arange(len(x)), fold)
        trained = fit(model, x[rest], y[:, rest].mean(axis=0), refine=False)
        misses[:, fold] = y[:, fold] - trained.values(x[fold])
    return np.asarray(np.square(misses).mean(axis=1))


def _scores(errors: Mapping[str, Array]) -> tuple[ModelScore, ...]:
    best = min(errors.values(), key=lambda squares: float(squares.mean()))
    scores = []
    for name, own in errors.items():
        excess = own - best
        error = float(excess.std(ddof=1)) / math.sqrt(len(excess))
        # Rounding must not tell apart what fits exactly.
        far = float(excess.mean()) - ROUNDING * float(own.mean() + 1)
        behind = 0.0 if far <= 0 else far / error if error else math.inf
        scores.append(ModelScore(name, math.sqrt(float(own.mean())), behind))
    return tuple(scores)


def _parameters(fitted: Fit, x: Array, y: Array) -> tuple[Parameter, ...]:
    slopes = fitted.slopes(x)
    own = (y - fitted.values(x)) @ np.linalg.pinv(slopes).T
    known = fitted.inside and np.linalg.matrix_rank(slopes) == slopes.shape[1]
    named = []
    for at, name in enumerate(fitted.model.names):
        value = float(fitted.parameters[at])
        half = intervals.interval(own[:, at].tolist()).half if known else math.nan
        ends = (value, value - half, value + half)
        shown = fitted.model.shown if name == fitted.model.shape else float
        named.append(Parameter(name, *(shown(end) for end in ends)))
    return tuple(named)


def _predictions(
    fits: Sequence[Fit], x: Array, y: Array, bounds: tuple[float, float], at: Sequence[float]
) -> tuple[Prediction, ...]:
    """By the first fit, with bands that cover those of all."""
    asked = np.array(sorted({*x.tolist(), *map(float, at)}))
    bands = np.array([_band(fitted, x, y, asked) for fitted in fits])
    lows, highs = bands[:, 1::2].min(axis=0), bands[:, 2::2].max(axis=0)
    cut = np.clip(np.stack([bands[0, 0], lows[0], highs[0], lows[1], highs[1]]), *bounds)
    return tuple(
        Prediction(place, value, low, high, least, most, not x[0] <= place <= x[-1])
        for place, (value, low, high, least, most) in zip(
            asked.tolist(), cut.T.tolist(), strict=True
        )
    )


def _band(fitted: Fit, x: Array, y: Array, asked: Array) -> Array:
    """Value, low and high of the mean, low and high of one more seed (5, points asked)."""
    inverse = np.linalg.pinv(fitted.slopes(x))
    own = (y - fitted.values(x)) @ inverse.T
    n, free = len(y), len(x) - len(inverse)
    # Of each seed, what its own curve leaves: measured once more at x, it is there once more.
    rest = y - fitted.values(x) - own @ fitted.slopes(x).T
    noise = float(np.square(rest).sum()) / (n * free)
    reach = fitted.slopes(asked)
    spread = np.square((own @ reach.T).std(axis=0, ddof=1))
    # The curves of seeds differ by this noise as well: only what goes beyond it is theirs.
    theirs = np.maximum(spread - noise * np.square(reach @ inverse).sum(axis=1), 0.0)
    value = fitted.values(asked)
    mean = intervals.quantile(n - 1) * np.sqrt(spread / n)
    trial = intervals.quantile(n - 1) * np.sqrt(theirs + spread / n + noise)
    return np.stack([value, value - mean, value + mean, value - trial, value + trial])
