"""Interference and forgetting: how the one goes with the other."""

from functools import partial

from matplotlib.figure import Figure

from study.analysis.interference import (
    EFFECT,
    INTERFERENCE,
    Cloud,
    Correlation,
    across_trials,
    cloud,
    within_trials,
)
from study.analysis.summary import by_data
from study.report import wording
from study.report.figures.plots import WIDTH, legend_below
from study.report.figures.style import GRID, MOST_PANELS, line_style
from study.report.section import Block, Bullets, Findings, Paragraph, Picture, Section, Table
from study.report.wording import number, reasons_of

TITLE = "Interference and forgetting"
LEGEND_COLUMNS = 3
ABOUT = (
    "Interference is ‖ΔW C‖ / (‖ΔW‖ ‖C‖) of a task's update and the inputs of old tasks. Over "
    "trials: its mean with the forgetting at the end. Over the tasks of a trial: its value "
    "with the accuracy that the task cost the earlier ones; one rho a trial. Described, not "
    "tested: each interval is its own. None says that one causes the other."
)
CLOUDS = (
    "A point is a trial: the mean interference of its tasks, and its forgetting after the last one."
)
NUMBERS = ("Spearman's rho", "95 % interval", "n")


def section(findings: Findings) -> Section:
    """Rank correlations, and a point a trial; nothing on the page where neither can be said."""
    tracked = [cell for cell in findings.looked_at if cell.has_subspace]
    measured = [
        cell
        for cell in findings.confirmed
        if any(trial.series(INTERFERENCE) for trial in cell.confirmed)
    ]
    kinds = {
        "over trials": [(cell.label, across_trials(cell.confirmed)) for cell in tracked],
        "over the tasks of a trial": [
            (cell.label, within_trials(cell.confirmed)) for cell in tracked
        ],
    }
    clouds = [
        cloud(data, {cell.label: cell.confirmed for cell in cells})
        for data, cells in by_data(measured).items()
    ]
    across, within = kinds.values()
    data = {"deeper": {"across": across, "within": within, "clouds": clouds}}
    known = [
        (label, over, result)
        for over, results in kinds.items()
        for label, result in results
        if isinstance(result, Correlation)
    ]
    if not known:
        return Section(TITLE, (), data)
    rows = [_row(*result) for result in known]
    reasons = [
        f"{text[:-1]} ({over})." for over, results in kinds.items() for text in reasons_of(results)
    ]
    pictures: list[Block] = [
        Picture(f"Same data: {own.data}", CLOUDS, partial(forgetting_against_interference, own))
        for own in clouds
        if len(own.cells) > 1
    ]
    blocks = (Paragraph(ABOUT), *pictures[:MOST_PANELS], Table(rows, NUMBERS), Bullets(reasons))
    return Section(TITLE, blocks, data)


def _row(label: str, over: str, result: Correlation) -> dict[str, str]:
    return {
        "cell": label,
        "ranks": over,
        "Spearman's rho": number(result.rho, 2),
        "95 % interval": f"{number(result.low, 2)} to {number(result.high, 2)}",
        "n": f"{result.n} trials",
    }


def forgetting_against_interference(own: Cloud) -> Figure:
    """A point a trial, by cell; labels leave out what all cells have in common."""
    rows = -(-len(own.cells) // LEGEND_COLUMNS)
    figure = Figure(figsize=(WIDTH, 3.4 + 0.24 * rows), layout="constrained")
    axes = figure.subplots()
    parts = [label.split(", ") for label, _ in own.cells]
    common = set(parts[0]).intersection(*parts[1:])
    for place, (words, (_, points)) in enumerate(zip(parts, own.cells, strict=True)):
        style = line_style(place) | {"linestyle": "none", "markersize": 6}
        axes.plot(
            [cause for cause, _ in points],
            [wording.shown(EFFECT, effect) for _, effect in points],
            label=", ".join(word for word in words if word not in common) or ", ".join(words),
            **style,
        )
    axes.set(xlabel="interference, mean over tasks (0 to 1)", ylabel=wording.heading(EFFECT))
    axes.grid(**GRID)
    legend_below(figure, columns=LEGEND_COLUMNS)
    return figure
