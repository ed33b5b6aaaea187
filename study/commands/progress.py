"""How far a study is: its bar, what remains of it, and where its contrasts stand."""

import math

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table

from study.commands.tables import clock, fitted, hours_between, new_table, plain
from study.ledger import ContrastRecord, History, LookRecord, is_open, present_looks
from study.planning import Plan
from study.planning.costs import Remaining

BAR = 24
# Beyond, a line each would push the cells off the screen.
MOST_CONTRASTS = 12


def progress_lines(name: str, elapsed: float, left: Remaining) -> RenderableType:
    """The name of a study with its times, below it a bar and the numbers of trials."""
    bar = Table.grid(padding=(0, 2, 0, 0))
    done = share(elapsed, left)
    bar.add_row(ProgressBar(1.0, done, width=BAR), plain(f"{done:.0%}"), plain(trials_words(left)))
    return Group(plain(f"{name}  {times_words(elapsed, left)}"), bar)


def share(elapsed: float, left: Remaining) -> float:
    """The share of a study that is done: of its time where that is known, else of its trials."""
    if left.most_seconds is None:
        return left.ended / max(1, left.most_planned)
    if left.ended == left.most_planned:
        return 1.0
    # A whole bar is for a study that has ended.
    return min(0.99, elapsed / max(elapsed + left.most_seconds, 1e-9))


def times_words(elapsed: float, left: Remaining) -> str:
    """Elapsed and remaining time."""
    return f"elapsed {clock(elapsed)}, remaining {remaining_words(left)}"


def remaining_words(left: Remaining) -> str:
    """Remaining time with its error; a range where it is open how many seeds are needed."""
    if left.seconds is None or left.most_seconds is None:
        return "unknown until a task is measured"
    if left.ended == left.most_planned:
        return "none"
    if left.most_planned == left.planned:
        return _between(left.seconds, left.error, " ± ")
    least, most = max(0.0, left.seconds - left.error), left.most_seconds + left.most_error
    return f"{_between(least, most, ' to ')}, by how many seeds are needed"


def trials_words(left: Remaining) -> str:
    """How many trials are done, run and are planned."""
    return f"{left.ended} done, {left.running} running, {_planned(left)} planned"


def done_words(left: Remaining) -> str:
    """How many of the planned trials are done, said when one ends: the next has not begun."""
    return f"{left.ended} of {_planned(left)} trials done"


def _planned(left: Remaining) -> str:
    most = f" (up to {left.most_planned})" if left.most_planned > left.planned else ""
    return f"{left.planned}{most}"


def contrast_lines(plan: Plan, history: History) -> RenderableType | None:
    """Where each contrast stands; None where there is none. Of many, how many stand where."""
    if not plan.contrasts:
        return None
    states = {contrast.name: _state(contrast, history) for contrast in plan.contrasts}
    if len(states) > MOST_CONTRASTS:
        counts: dict[str, int] = {}
        for state in states.values():
            word = state.partition(",")[0].partition(" on ")[0]
            counts[word] = counts.get(word, 0) + 1
        told = ", ".join(f"{count} {word}" for word, count in counts.items())
        return plain(f"{len(states)} contrasts: {told}")
    table = new_table()
    table.add_column("contrast")
    table.add_column("state")
    for name, state in states.items():
        table.add_row(fitted(name), fitted(state))
    return table


def _state(contrast: ContrastRecord, history: History) -> str:
    looks = present_looks(contrast, history.looks.get(contrast.name, ()), history.winners)
    if not looks:
        return "waiting for its trials"
    seen = looks[-1]
    more = ""
    if is_open(contrast, looks, history.winners):
        seeds = ", ".join(str(seed) for seed in seen.next_seeds)
        more = f"; next {'seed' if len(seen.next_seeds) == 1 else 'seeds'} {seeds}"
    return f"{verdict_words(seen)}{more}"


def verdict_words(look: LookRecord) -> str:
    """A look at a contrast, in the unit of its margin."""
    text = look.verdict
    if not math.isnan(look.mean):
        text += f", {look.mean:+.2f}"
    if not math.isnan(look.low):
        text += f" [{look.low:.2f}, {look.high:.2f}]"
    return f"{text} on {len(look.seeds)} seed{'' if len(look.seeds) == 1 else 's'}"


def _between(low: float, high: float, to: str) -> str:
    return hours_between(low / 3600, high / 3600, to)
