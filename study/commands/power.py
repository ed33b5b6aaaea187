"""`--plan`: what the seeds of a study could show of each contrast, before they are paid for."""

from collections.abc import Sequence
from pathlib import Path

from study.commands.tables import tell
from study.ledger import in_points
from study.planning import Plan
from study.planning.costs import ContrastPower, contrast_powers
from study.system import say

SOURCES = (
    "--past DIR takes it from the confirmations of a past study, --pilot N from N trials of each "
    "cell on validation images"
)


def show_power(plan: Plan, folders: Sequence[Path], pilot: int) -> None:
    """Prints what the seeds could show, a line a contrast; nothing without contrasts.

    Raises:
        ValueError: if a folder is not that of a study.
    """
    for line in power_lines(plan, contrast_powers(plan, folders, pilot, say)):
        tell(line)


def power_lines(plan: Plan, powers: Sequence[ContrastPower]) -> list[str]:
    """What the seeds could show, as lines."""
    if not powers:
        return []
    seeds, count = len(plan.order), len(powers)
    head = (
        f"what {'up to ' if plan.spec.further_seeds else ''}{seeds} "
        f"seed{'' if seeds == 1 else 's'} could show with 80 % power (paired t-test, 5 % error "
        f"over {count} contrast{'' if count == 1 else 's'}):"
    )
    lines = [f"  {power.contrast.name}: {_shown(plan, power)}" for power in powers]
    if not all(power.spread for power in powers):
        lines.append(f"the spread between seeds: {SOURCES}")
    return [head, *lines]


def _shown(plan: Plan, power: ContrastPower) -> str:
    if power.spread is None:
        return "the spread between seeds is not known"
    pairs = f"{power.spread.pairs} pairs of {power.spread.source}"
    if power.smallest is None:
        return f"the spread between seeds is not known: {pairs} do not differ"
    unit = " points" if in_points(power.contrast.metric, 1.0) == 100 else ""
    margin = f"{plan.spec.margin:g}{unit[:-1] if plan.spec.margin == 1 else unit}"
    needed = "more than 10,000" if power.seeds is None else f"{power.seeds}"
    least = "none" if power.smallest == float("inf") else f"{power.smallest:.3g}{unit} or more"
    return (
        f"differences of {least}; one of the margin ({margin}) would need "
        f"{needed} seeds (spread {power.spread.std:.3g}{unit} over {pairs})"
    )
