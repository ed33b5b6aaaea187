"""Scaling with tasks: accuracy, forgetting and free dimensions, with the curves they follow."""

from collections.abc import Mapping, Sequence
from functools import partial

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from study.analysis.task_scaling import CurveTrend, TaskCountTrend, curve_trends, task_count_trends
from study.analysis.trends import Prediction, Trend
from study.report import wording
from study.report.figures.plots import WIDTH, names_or_legend
from study.report.figures.style import GREY, GRID, half, line_style
from study.report.section import (
    Block,
    Bullets,
    Findings,
    Folded,
    Paragraph,
    Picture,
    Section,
    Table,
)
from study.report.wording import METRIC_NAMES, listed, number

TITLE = "Scaling with tasks"
AHEAD, STEPS = 2.0, 24
"""How far beyond the last task curves are continued, as a factor, and in how many steps."""
POINTS = 10
"""About so many points of a curve have their interval drawn."""
MOST_LINES = 6
COUNTED = "tasks in the sequence"
DRAWN = ("test/accuracy", "test/forgetting")
BANDS = (
    "Points: means over seeds with the 95 % t-interval. Lines: the simplest curve that "
    "cross-validation does not tell from the best one, with the 95 % band of the mean over all "
    "such curves. Dashed, right of the dotted line: extrapolated, beyond all tasks that were run; "
    "nothing was measured there, and the band is only about 95 %: it takes for granted that one of "
    "these curves goes on."
)


def section(findings: Findings) -> Section:
    """Curves against the number of tasks of the sequence, or else against tasks seen."""
    study, cells, looked_at = findings.study, findings.confirmed, findings.looked_at
    counts = [cell.tasks for cell in cells if cell.tasks]
    trends = task_count_trends(study, _ahead(counts)) if len(set(counts)) > 1 else []
    curves = [
        (cell.label, curve_trends(study, cell.cell, _ahead([cell.tasks or 1])))
        for cell in looked_at
    ]
    numbers = {"cells": len(cells), "looked_at": len(looked_at)}
    data = {"deeper": {"trends": trends, "curves": curves, **numbers}}
    counted = _by_metric([(curve.label, curve) for curve in trends])
    if any(counted.values()):
        about = "Each point is a sequence of its own: the metric after its last task."
        return Section(TITLE, _blocks(counted, COUNTED, about, _refusals(trends)), data)
    within = [(label, curve) for label, own in curves for curve in own]
    ends = [curve.trend.data_range[1] for _, curve in within if isinstance(curve.trend, Trend)]
    # What a short sequence shows, the beginning of a long one shows as well.
    seen = _by_metric(within, max(ends, default=0))
    if not any(seen.values()):
        return Section(TITLE, (), data)
    about = (
        "Within a sequence: the metric after each task, over the classes seen so far, so that "
        "later points are of more classes."
    )
    shown = len(seen["test/accuracy"])
    if shown < len(cells):
        about += f" Of {len(cells)} cells {shown} are shown, with the most tasks."
    return Section(TITLE, _blocks(seen, "tasks seen", about, _refusals(trends)), data)


def _by_metric(
    curves: Sequence[tuple[str, TaskCountTrend | CurveTrend]], least: float = 0
) -> dict[str, dict[str, Trend]]:
    """The trends by metric and label, of those that reach `least` tasks."""
    trends: dict[str, dict[str, Trend]] = {metric: {} for metric in METRIC_NAMES}
    for label, curve in curves:
        if isinstance(curve.trend, Trend) and curve.trend.data_range[1] >= least:
            trends[curve.metric][label] = curve.trend
    return trends


def _ahead(counts: Sequence[int]) -> list[float]:
    """Where a curve is drawn: even steps of a logarithmic axis, to some way beyond the data."""
    first, last = (1 if len(set(counts)) == 1 else min(counts)), AHEAD * max(counts)
    ratio = (last / first) ** (1 / STEPS)
    return sorted({float(round(first * ratio**step)) for step in range(STEPS + 1)})


def _blocks(
    trends: Mapping[str, Mapping[str, Trend]], what: str, about: str, refusals: Sequence[str]
) -> tuple[Block, ...]:
    blocks: list[Block] = [Paragraph(about)]
    # Within a sequence it is not final.
    names = {**METRIC_NAMES, **({} if what == COUNTED else {"test/accuracy": "accuracy"})}
    for metric in DRAWN:
        lines = dict(list(trends[metric].items())[:MOST_LINES])
        if lines:
            left = len(trends[metric]) - len(lines)
            more = (f"{left} more lines are in the table alone.",) if left else ()
            title = f"{names[metric].capitalize()} over {what}"
            caption = BANDS if len(blocks) == 1 else "As above."
            draw = partial(trends_over_tasks, metric, names[metric], lines, what)
            blocks.append(Picture(title, caption, draw, more))
    rows = {
        metric: [_trend_row(label, names[metric], metric, trend) for label, trend in lines.items()]
        for metric, lines in trends.items()
    }
    others = [row for metric in METRIC_NAMES if metric != "test/accuracy" for row in rows[metric]]
    note = (
        "Parameters of shares are for shares of 1, not for %; x is the number of tasks. Error: "
        "root mean square on points left out of the fit. A parameter's interval is Student's over "
        "seeds."
    )
    blocks += [Paragraph(note), Table(rows["test/accuracy"])]
    if others:
        blocks.append(Folded("The same of other metrics", Table(others)))
    return (*blocks, Bullets(refusals))


def _trend_row(label: str, name: str, metric: str, trend: Trend) -> dict[str, str]:
    chosen = next(score for score in trend.scores if score.model == trend.model)
    others = [
        score.model for score in trend.scores if score.plausible and score.model != trend.model
    ]
    far = max(trend.predictions, key=lambda point: point.x)
    return {
        "cells": label,
        "metric": name,
        "curve": f"{trend.model}\n{trend.formula}",
        "parameters (95 % interval)": "\n".join(
            f"{own.name} = {number(own.value)} ({number(own.low)} to {number(own.high)})"
            for own in trend.parameters
        ),
        "error": _value(metric, chosen.error, points=True),
        "not told apart from": listed(others) or "none",
        "at twice the tasks, extrapolated" if far.extrapolated else "at the end": _at(metric, far),
        "rests on": f"{trend.n} seeds × {len(trend.means)} points",
    }


def _at(metric: str, point: Prediction) -> str:
    low, high = _value(metric, point.low), _value(metric, point.high)
    return f"{point.x:g} tasks: {_value(metric, point.value)} ({low} to {high})"


def _value(metric: str, value: float, points: bool = False) -> str:
    """A value with its unit, of dimensions to one digit after the point."""
    unit = wording.unit(metric)
    if not unit:
        return number(round(value, 1) + 0.0, 4)
    return f"{wording.text(metric, value)} {'points' if points else unit}"


def _refusals(trends: Sequence[TaskCountTrend]) -> list[str]:
    """Why there is no curve over the numbers of tasks, each reason once."""
    final = [(curve.label, curve.trend) for curve in trends if curve.metric == "test/accuracy"]
    return [
        f"Over the number of tasks in the sequence: not enough data for {listed(labels)}: {reason}."
        for reason, labels in wording.by_reason(final).items()
    ]


def trends_over_tasks(metric: str, name: str, lines: Mapping[str, Trend], what: str) -> Figure:
    """Measured means with their intervals, the fitted curves, dashed beyond the data.

    `name` is what people call the metric, `what` the horizontal axis.
    """
    figure = Figure(figsize=(WIDTH, 4.2), layout="constrained")
    axes = figure.subplots()
    last = max(trend.data_range[1] for trend in lines.values())
    ends: dict[str, tuple[float, float]] = {}
    for place, (label, trend) in enumerate(lines.items()):
        look = line_style(place)
        color = look["color"]
        name_and_model = f"{label} ({trend.model})"
        # Of a long curve some points, and not the same ones as of the next line.
        step = max(1, len(trend.means) // POINTS)
        shown = trend.means[place % step :: step]
        axes.errorbar(
            [x for x, _ in shown],
            [wording.shown(metric, mean.mean) for _, mean in shown],
            yerr=[wording.shown(metric, half(mean.half)) for _, mean in shown],
            label=name_and_model,
            **{**look, "linestyle": "none", "capsize": 3},
        )
        for part, dashes in ((False, "-"), (True, (0, (4, 2)))):
            # Beyond the data from its last point on, so that there is no gap.
            points = [p for p in trend.predictions if p.extrapolated == part]
            if part:
                edge = [p for p in trend.predictions if p.x == trend.data_range[1]]
                points = [*edge, *(p for p in points if p.x > trend.data_range[1])]
            x = [p.x for p in points]
            y = [wording.shown(metric, p.value) for p in points]
            axes.plot(x, y, color=color, linestyle=dashes, linewidth=1.6)
            # In print the marker alone tells which line ends here.
            axes.plot(x[-1:], y[-1:], color=color, marker=look["marker"], linestyle="none")
            ends.update((name_and_model, end) for end in zip(x[-1:], y[-1:], strict=True))
            low = [wording.shown(metric, p.low) for p in points]
            high = [wording.shown(metric, p.high) for p in points]
            axes.fill_between(x, low, high, color=color, alpha=0.06 if part else 0.14, linewidth=0)
    axes.axvline(last, color=GREY, linewidth=1, linestyle=":")
    axes.annotate(
        "extrapolated",
        (last, 1),
        xycoords=("data", "axes fraction"),
        xytext=(4, -10),
        textcoords="offset points",
        color=GREY,
        fontsize=9,
    )
    axes.set(xlabel=what, ylabel=f"{name}, {wording.unit(metric)}")
    if wording.unit(metric) == "%":
        # No share lies outside of 0 to 100 %, whatever an interval of few seeds says.
        low_end, high_end = axes.get_ylim()
        axes.set_ylim(max(0.0, low_end), min(103.0, high_end))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="y", **GRID)
    names_or_legend(figure, columns=3, ends=ends)
    return figure
