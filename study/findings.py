"""What the search of a cell has come to, as records."""

from collections.abc import Sequence

from study.ledger import Record
from study.planning import Cell
from study.sampling import CellSearch


def findings(cell: Cell, search: CellSearch, objectives: Sequence[str]) -> list[Record]:
    """The records of a search that is over, for a cell that takes its settings.

    The winner, and with several objectives the front that it is of; or that there is none, and
    why.
    """
    winner = search.winner
    if winner is None:
        reason = f"none of {search.launched} search trials saw all tasks"
        if not search.launched:
            reason = f"no setting that was proposed is valid: {search.refusal}"
        return [{"kind": "failed_cell", "cell": cell.id, "error": reason}]
    found: Record = {
        "kind": "winner",
        "cell": cell.id,
        "trial": winner.trial.id,
        "searched": dict(winner.trial.searched),
        "value": winner.value,
        "objective": objectives[0],
        "values": dict(winner.values),
    }
    if len(objectives) == 1:
        return [found]
    points = [
        {"trial": one.trial.id, "searched": dict(one.trial.searched), "values": dict(one.values)}
        for one in search.front
    ]
    return [found, {"kind": "front", "cell": cell.id, "points": points}]
