"""Sections on what more tasks do: curves over tasks, and when the space runs out."""

from collections.abc import Mapping, Sequence
from html import escape

from study.analysis import looks, plots, units
from study.analysis.deeper import MOST_CELLS, Deeper
from study.analysis.evidence import NotEnough
from study.analysis.exhaustion import LayerForecast, forecast_text
from study.analysis.markup import bullets, paragraph, table
from study.analysis.picture import as_html, picture
from study.analysis.trends import Prediction, Trend
from study.analysis.wording import listed, number

MOST_LINES = 6
COUNTED = "tasks in the sequence"
DRAWN = ("test/accuracy", "test/forgetting")
NAMES = {
    "test/accuracy": "final accuracy",
    "test/average_anytime_accuracy": "average anytime accuracy",
    "test/forgetting": "forgetting",
    "subspace/dim_free": "free dimensions (mean of layers)",
}
BANDS = (
    "Points: means over seeds with the 95 % t-interval. Lines: the simplest curve that "
    "cross-validation does not tell from the best one, with the 95 % band of the mean over all "
    "such curves. Dashed, right of the dotted line: extrapolated, beyond all tasks that were run; "
    "nothing was measured there, and the band is only about 95 %: it takes for granted that one of "
    "these curves goes on."
)
LAYERS = (
    "Grey: the tasks that the forecast was fitted to. Blue: the predicted task after which a layer "
    "has fewer free dimensions than the rank, with the 95 % interval for one trial; an arrow at "
    "the border: not before the last task. Red crosses: when a trial's layer did run out. Dotted: "
    "the last task."
)


def scaling_section(deeper: Deeper) -> str:
    """Curves against the number of tasks of the sequence, or else against tasks seen."""
    counted = {
        metric: {
            one.label: one.trend
            for one in deeper.trends
            if one.metric == metric and isinstance(one.trend, Trend)
        }
        for metric in NAMES
    }
    if any(counted.values()):
        about = "Each point is a sequence of its own: the metric after its last task."
        return _trends(counted, COUNTED, about, _refusals(deeper))
    seen: dict[str, dict[str, Trend]] = {metric: {} for metric in NAMES}
    curves = [(label, one) for label, found in deeper.curves for one in found]
    most = max(
        (one.trend.data_range[1] for _, one in curves if isinstance(one.trend, Trend)), default=0
    )
    for label, one in curves:
        # What a short sequence shows, the beginning of a long one shows as well.
        if isinstance(one.trend, Trend) and one.trend.data_range[1] == most:
            seen[one.metric][label] = one.trend
    if not any(seen.values()):
        return ""
    about = (
        "Within a sequence: the metric after each task, over the classes seen so far, so that "
        "later points are of more classes."
    )
    shown = len(seen["test/accuracy"])
    if shown < deeper.cells:
        about += f" Of {deeper.cells} cells {shown} are shown, with the most tasks."
    return _trends(seen, "tasks seen", about, _refusals(deeper))


def space_section(deeper: Deeper) -> str:
    """Predicted against seen exhaustion of each layer."""
    if not deeper.space:
        return ""
    known = {label: one for label, one in deeper.space if not isinstance(one, NotEnough)}
    told = {
        label: layers for label, layers in known.items() if any(one.reason == "" for one in layers)
    }
    reasons = [
        f"{label}: not enough evidence, {one.reason}."
        for label, one in deeper.space
        if isinstance(one, NotEnough)
    ]
    figure = ""
    most = max((layers[0].tasks for layers in told.values()), default=0)
    longest = {label: layers for label, layers in told.items() if layers[0].tasks == most}
    if longest:
        drawn = dict(list(longest.items())[:MOST_LINES])
        with looks.style():
            figure = as_html(picture("", LAYERS, plots.predicted_exhaustion(drawn)))
    rows = [_layer_row(label, one) for label, layers in known.items() for one in layers][
        : 5 * MOST_CELLS
    ]
    about = (
        "Forecast from the first half of the tasks, of which the later ones give the rate, then "
        "compared with what was seen in the second half. It takes for granted that later tasks "
        "go on filling the space as those did."
    )
    sentences = [
        f"{label}, {forecast_text(one)}"
        for label, layers in longest.items()
        for one in layers
        if any(other.task is not None for other in one.observed)
    ][:MOST_CELLS]
    return (
        f"<h2>When the space runs out</h2>{paragraph(about)}{figure}"
        f"{bullets([*sentences, *reasons])}{_folded(rows, 'Every layer')}"
    )


def _trends(
    found: Mapping[str, Mapping[str, Trend]], what: str, about: str, refusals: Sequence[str]
) -> str:
    parts = [f"<h2>Scaling with tasks</h2>{paragraph(about)}"]
    # Within a sequence it is not final.
    names = NAMES if what == COUNTED else NAMES | {"test/accuracy": "accuracy"}
    with looks.style():
        for metric in DRAWN:
            lines = dict(list(found[metric].items())[:MOST_LINES])
            if lines:
                left = len(found[metric]) - len(lines)
                more = [f"{left} more lines are in the table alone."] if left else []
                figure = plots.trends_over_tasks(metric, names[metric], lines, what)
                title = f"{names[metric].capitalize()} over {what}"
                caption = BANDS if len(parts) == 1 else "As above."
                parts.append(as_html(picture(title, caption, figure, more)))
    rows = {
        metric: [_trend_row(label, names[metric], metric, one) for label, one in lines.items()]
        for metric, lines in found.items()
    }
    others = [row for metric in NAMES if metric != "test/accuracy" for row in rows[metric]]
    note = (
        "Parameters of shares are for shares of 1, not for %; x is the number of tasks. Error: "
        "root mean square on points left out of the fit. A parameter's interval is Student's over "
        "seeds."
    )
    first = table(rows["test/accuracy"], set())
    rest = _folded(others, "The same of other metrics")
    return "".join([*parts, paragraph(note), first, rest, bullets(refusals)])


def _trend_row(label: str, name: str, metric: str, one: Trend) -> dict[str, str]:
    chosen = next(score for score in one.scores if score.model == one.model)
    others = [score.model for score in one.scores if score.plausible and score.model != one.model]
    far = max(one.predictions, key=lambda found: found.x)
    return {
        "cells": label,
        "metric": name,
        "curve": f"{one.model}\n{one.formula}",
        "parameters (95 % interval)": "\n".join(
            f"{found.name} = {number(found.value)} ({number(found.low)} to {number(found.high)})"
            for found in one.parameters
        ),
        "error": _value(metric, chosen.error, points=True),
        "not told apart from": listed(others) or "none",
        "at twice the tasks, extrapolated" if far.extrapolated else "at the end": _at(metric, far),
        "rests on": f"{one.n} seeds × {len(one.means)} points",
    }


def _at(metric: str, found: Prediction) -> str:
    low, high = _value(metric, found.low), _value(metric, found.high)
    return f"{found.x:g} tasks: {_value(metric, found.value)} ({low} to {high})"


def _value(metric: str, value: float, points: bool = False) -> str:
    """A value with its unit, of dimensions to one digit after the point."""
    unit = units.unit(metric)
    if not unit:
        return number(round(value, 1) + 0.0, 4)
    return f"{units.text(metric, value)} {'points' if points else unit}"


def _layer_row(label: str, one: LayerForecast) -> dict[str, str]:
    seen = [str(other.task) for other in one.observed if other.task is not None]
    interval = "–"
    if not one.reason:
        ends = [
            f"> {one.horizon}" if x is None else f"{x:g}" for x in (one.task, one.low, one.high)
        ]
        interval = f"{ends[0]} ({ends[1]} to {ends[2]})"
    return {
        "cell": label,
        "layer": one.layer,
        "rank": str(one.rank),
        "fitted to tasks": f"1 to {one.fitted_to} of {one.tasks}",
        "forecast": one.model,
        "predicted task (95 %)": interval,
        "seen": ", ".join(seen) or f"not within {one.tasks} tasks",
        "trials": str(len(one.observed)),
        "verdict": f"{one.verdict}{': ' if one.reason else ''}{one.reason}",
    }


def _refusals(deeper: Deeper) -> list[str]:
    """Why there is no curve over the numbers of tasks, each reason once."""
    reasons: dict[str, list[str]] = {}
    for one in deeper.trends:
        if isinstance(one.trend, NotEnough) and one.metric == "test/accuracy":
            reasons.setdefault(one.trend.reason, []).append(one.label)
    return [
        f"Over the number of tasks in the sequence: not enough evidence for {listed(labels)}: "
        f"{reason}."
        for reason, labels in reasons.items()
    ]


def _folded(rows: Sequence[Mapping[str, str]], title: str) -> str:
    if not rows:
        return ""
    return f"<details><summary>{escape(title)}</summary>{table(rows, set())}</details>"
