"""What the most tasks change against the fewest, in one sentence of the short answer."""

from collections.abc import Mapping, Sequence

from study.analysis import scaling
from study.analysis.scaling import Comparison
from study.analysis.summary import CellSummary
from study.analysis.wording import between, listed, signed

MOST_NAMES = 6


def task_change(cells: Sequence[CellSummary]) -> str:
    """Final accuracy at the most tasks against the fewest, where only these vary; else "".

    Paired over seeds, with Holm's correction over the contenders.
    """
    if any(one.beside_tasks != cells[0].beside_tasks for one in cells):
        return ""
    ends = set()
    groups: dict[str, Mapping[str, Mapping[int, float]]] = {}
    for name in dict.fromkeys(one.contender for one in cells):
        own = {
            one.tasks: one for one in cells if one.contender == name and one.tasks and one.finals
        }
        if len(own) < 2 or len(own) != sum(one.contender == name for one in cells):
            continue
        few, many = own[min(own, key=int)], own[max(own, key=int)]
        if set(few.finals) & set(many.finals):
            ends.add((few.tasks, many.tasks))
            groups[name] = {str(many.tasks): many.finals, str(few.tasks): few.finals}
    if len(ends) != 1:
        return ""
    ((least, most),) = ends
    changes = scaling.compare(groups)
    shown = [_change(one) for one in changes if one.enough_evidence]
    open_ones = [one.group for one in changes if not one.enough_evidence]
    parts = []
    if shown:
        parts.append(f"final accuracy changes by, in points: {listed(shown, MOST_NAMES)}")
    if open_ones:
        parts.append(f"not enough evidence of a change for {listed(open_ones)}")
    return f"From {least} to {most} tasks: {'; '.join(parts)}."


def _change(one: Comparison) -> str:
    found = one.difference
    return f"{one.group} {signed(found.mean)} (95 % interval {between(found)})"
