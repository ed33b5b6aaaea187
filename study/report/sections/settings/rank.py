"""Rank: what doubling it does at each number of tasks, and whether tasks change that."""

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
from study.report.figures.plots import legend_below
from study.report.figures.style import GRID, MOST_PANELS, half, line_style
from study.report.section import Block, Bullets, Findings, Picture, Section, Table
from study.report.wording import DASH, bounds, listed, p_text, percent

TITLE = "Rank"


@dataclass(frozen=True)
class RankStudy:
    """A table of ranks, what doubling the rank does in it, and whether tasks change that."""

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
            "p (Holm)": p_text(effect.p_holm).removeprefix("= "),
            "verdict": ("more rank, " + ("more" if effect.slope.mean > 0 else "less"))
            if effect.enough_evidence
            else "not enough evidence",
        }
        for effect in rank.effects
    ]
    return (
        Picture(
            f"{rank.table.label}: {wording.heading(metric)}",
            "Mean over seeds with the 95 % t-interval.",
            partial(rank_lines, rank.effects, metric),
        ),
        Table(rows, ("tasks", "p (Holm)")),
        Bullets([_interaction_text(rank.interaction)]),
    )


def _interaction_text(result: Interaction | NotEnough) -> str:
    if isinstance(result, NotEnough):
        return f"Rank × tasks: not enough evidence, {result.reason}."
    shares = listed([f"{percent(x, 0)} % {name}" for name, x in result.shares.items() if x == x])
    best = listed([f"{own.rank} in {own.tasks} tasks" for own in result.best])
    variation = f"; of the variation of the means, less noise: {shares}" if shares else ""
    return (
        f"Rank × tasks over {result.n} seeds: {interaction_verdict(result)} (permutation p "
        f"{p_text(result.p)}, the least possible {p_text(result.least_p).removeprefix('= ')})"
        f"{variation}. Best rank by the means: {best}."
    )


def interaction_verdict(result: Interaction) -> str:
    """What can be said of rank × tasks."""
    if result.best_differs:
        return "the best rank differs with the number of tasks"
    if result.enough_evidence:
        return (
            "the effect of the rank changes with the number of tasks; not enough evidence that "
            "another rank is best"
        )
    return "not enough evidence"


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
    legend_below(figure, columns=4)
    return figure
