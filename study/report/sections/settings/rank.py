"""Rank: what doubling it does at each number of tasks, and how tasks change that."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from matplotlib.figure import Figure

from study.analysis.rank import (
    Interaction,
    RankEffect,
    RankTable,
    interaction,
    rank_sensitivity,
    rank_tables,
)
from study.evidence import NotEnough
from study.report import wording
from study.report.figures.plots import names_or_legend
from study.report.figures.style import GRID, MOST_PANELS, half, line_style
from study.report.section import Block, Bullets, Findings, Picture, Section, Table
from study.report.wording import DASH, bounds, listed, percent

TITLE = "Rank"


@dataclass(frozen=True)
class RankStudy:
    """A table of ranks, what doubling the rank does in it, and how tasks change that."""

    table: RankTable
    effects: tuple[RankEffect, ...]
    interaction: Interaction | NotEnough


def section(findings: Findings) -> Section:
    """Rank × tasks; nothing on the page where the grid has no ranks."""
    tables = [*rank_tables(findings.study), *rank_tables(findings.study, "test/forgetting")]
    ranks = [RankStudy(own, tuple(rank_sensitivity(own)), interaction(own)) for own in tables]
    blocks = tuple(block for rank in ranks[:MOST_PANELS] for block in _blocks(rank))
    return Section(TITLE, blocks, {"deeper": {"ranks": ranks}})


def _blocks(rank: RankStudy) -> tuple[Block, ...]:
    metric = rank.table.metric
    rows = [
        {
            "tasks": str(effect.tasks),
            "best rank by the mean": DASH if effect.best is None else str(effect.best),
            "change per doubling of the rank": (
                f"{wording.text(metric, effect.slope.mean)} ({bounds(effect.slope)})"
            ),
        }
        for effect in rank.effects
    ]
    return (
        Picture(
            f"{rank.table.label}: {wording.heading(metric)}",
            "Mean over seeds with the 95 % t-interval.",
            partial(rank_lines, rank.effects, metric),
        ),
        Table(rows, ("tasks",)),
        Bullets([_interaction_text(rank.interaction, metric)]),
    )


def _interaction_text(result: Interaction | NotEnough, metric: str) -> str:
    if isinstance(result, NotEnough):
        return f"Rank × tasks: not enough data, {result.reason}."
    shares = listed([f"{percent(x, 0)} % {name}" for name, x in result.shares.items() if x == x])
    best = listed([f"{own.rank} in {own.tasks} tasks" for own in result.best])
    variation = f"; of the variation of the means, less noise: {shares}" if shares else ""
    change = wording.text(metric, result.slope_change.mean)
    return (
        f"Rank × tasks over {result.n} seeds: for each doubling of the tasks, the change per "
        f"doubling of the rank grows by {change} points "
        f"({bounds(result.slope_change)}){variation}. Best rank by the means: {best}."
    )


def rank_lines(effects: Sequence[RankEffect], metric: str) -> Figure:
    """The metric by rank, one line for each number of tasks, intervals drawn."""
    figure = Figure(figsize=(6.5, 3.9), layout="constrained")
    axes = figure.subplots()
    for place, effect in enumerate(effects):
        shift = 1.02 ** (place - (len(effects) - 1) / 2)
        axes.errorbar(
            [rank * shift for rank, _ in effect.by_rank],
            [wording.shown(metric, mean.mean) for _, mean in effect.by_rank],
            yerr=[wording.shown(metric, half(mean.half)) for _, mean in effect.by_rank],
            capsize=4,
            label=f"{effect.tasks} tasks",
            **line_style(place),
        )
    ranks = sorted({rank for effect in effects for rank, _ in effect.by_rank})
    axes.set_xscale("log", base=2)
    axes.set_xticks(ranks, [str(rank) for rank in ranks])
    axes.minorticks_off()
    axes.set(xlabel="rank (log scale)", ylabel=wording.heading(metric))
    axes.grid(axis="y", **GRID)
    names_or_legend(figure, columns=4)
    return figure
