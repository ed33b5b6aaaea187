"""What mattered: how far searched keys decided whether a search trial was among the best."""

from collections.abc import Mapping
from functools import partial

from matplotlib.figure import Figure

from study.analysis.importance import Importance, importance
from study.report.figures.plots import grid_of
from study.report.figures.style import GRID, MOST_PANELS, OKABE_ITO
from study.report.section import Block, Bullets, Findings, Paragraph, Picture, Section, Table
from study.report.wording import percent, reasons_of

TITLE = "What mattered"
MOST_SEARCHES = 6
"""Searches whose keys are weighed, which takes a second each."""
MATTERED = (
    "PED-ANOVA (arXiv 2304.10255): how far the values of a key among the best tenth of the search "
    "trials are from those among all. Shares of all keys add up to 100 %. Red tick: what a key "
    "without effect stays below in 95 of 100 cases."
)


def section(findings: Findings) -> Section:
    """Which searched keys decided; nothing on the page where nothing was searched."""
    searched = [cell for cell in findings.by_length if cell.searched > 1 and cell.tuned_in is None]
    results = [
        (cell.label, importance(findings.study, cell.cell)) for cell in searched[:MOST_SEARCHES]
    ]
    data = {"deeper": {"importances": results, "searches": len(searched)}}
    if not results:
        return Section(TITLE, (), data)
    known = {label: result for label, result in results if isinstance(result, Importance)}
    sentences = [f"{label}: {_most(result)}." for label, result in known.items()]
    blocks: list[Block] = [Bullets([*sentences, *reasons_of(results)])]
    if known:
        drawn = dict(list(known.items())[:MOST_PANELS])
        rows = [
            {
                "cell": label,
                "key": key.key,
                "share, %": percent(key.share),
                "by chance up to, %": percent(key.chance),
            }
            for label, result in known.items()
            for key in result.keys
        ]
        blocks.append(Picture("", MATTERED, partial(importances, drawn)))
        blocks.append(Table(rows, ("share, %", "by chance up to, %")))
    if len(searched) > len(results):
        blocks.append(
            Paragraph(
                f"{len(results)} of {len(searched)} searches were looked at: those over the most "
                "tasks, of methods under study first."
            )
        )
    return Section(TITLE, tuple(blocks), data)


def _most(result: Importance) -> str:
    first, *_ = result.keys
    return (
        f"of {result.trials} search trials, {first.key} has the largest share, "
        f"{percent(first.share)} % (a key without effect: up to {percent(first.chance)} %)"
    )


def importances(cells: Mapping[str, Importance]) -> Figure:
    """Share of each key, and what chance alone would give."""
    most = max(len(result.keys) for result in cells.values())
    figure, grid = grid_of(len(cells), across=2, height=1.3 + 0.34 * most)
    for axes, (label, result) in zip(grid, cells.items(), strict=True):
        shares = [100 * key.share for key in result.keys]
        rows = range(len(shares))
        axes.barh(rows, shares, color=OKABE_ITO[5], edgecolor=OKABE_ITO[0], height=0.6)
        chance = [100 * key.chance for key in result.keys]
        axes.plot(chance, rows, "|", color=OKABE_ITO[1], markersize=15, markeredgewidth=2.5)
        axes.set(title=label, xlabel="share of importance, %", xlim=(0, 102))
        axes.set_yticks(rows, [key.key for key in result.keys])
        axes.invert_yaxis()
        axes.grid(axis="x", **GRID)
    return figure
