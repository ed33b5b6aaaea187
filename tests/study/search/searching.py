"""Drives the search of one cell without any training, event by event."""

import json
from dataclasses import dataclass
from typing import Any

from study.planning.cells import Cell
from study.planning.spec import StudySpec
from study.search.cell_search import CellSearch, Outcome, Proposal
from tests.study.small_study import small_plan

OUTCOMES: tuple[Outcome, ...] = ("completed", "pruned", "completed", "infeasible", "failed")
FINITE = {
    "inflora": {
        "method.rank": {"low": 2, "high": 4},
        "method.energy": {"choices": ["sigma2", "sigma4"]},
        "method.epsilon": {"low": 0.5, "high": 0.7, "step": 0.1},
    }
}
CONDITIONAL = {
    "inflora": {
        "method.energy": {"choices": ["sigma2", "sigma4"]},
        "method.rank": None,
        "method.epsilon": {"low": 0.8, "high": 0.99, "when": {"method.energy": "sigma2"}},
    }
}
# The second is no point of the space.
FIRST = [
    {"method.rank": 4, "method.epsilon": 0.9, "optim.lr": 1e-3},
    {"method.rank": 40, "method.epsilon": 0.9, "optim.lr": 1e-3},
    {"method.rank": 6, "method.epsilon": 0.85, "optim.lr": 2e-3},
]


@dataclass(frozen=True)
class Tell:
    """The end of a trial."""

    trial: str
    curve: dict[int, dict[str, float]]
    outcome: Outcome


Event = Proposal | Tell


def cell_of(**changes: Any) -> tuple[Cell, StudySpec]:
    """The cell of a study of one method with four tasks."""
    plan = small_plan(
        **{"grid": {"method.name": ["inflora"]}, "fixed": {"data.tasks": 4}, **changes}
    )
    return plan.cells[0], plan.spec


def result_of(proposal: Proposal, at: int, spec: StudySpec) -> Tell:
    """How the trial launched as number `at` ends: it depends on its settings alone."""
    settings = proposal.trial.searched
    outcome = OUTCOMES[at % len(OUTCOMES)]
    gain = 1 / settings["method.rank"] + settings.get("method.epsilon", 0.5)
    seen = range(1, 3 if outcome == "pruned" else 5)
    signs = dict(zip(spec.objective, spec.signs, strict=True))
    curve = {task: {key: sign * gain + task for key, sign in signs.items()} for task in seen}
    return Tell(proposal.trial.id, curve, outcome)


def proposals(events: list[Event]) -> list[Proposal]:
    """Those of the events that are proposals."""
    return [event for event in events if isinstance(event, Proposal)]


def go_on(search: CellSearch, spec: StudySpec, events: list[Event], width: int) -> list[Event]:
    """All events to the end of a search with `width` trials at a time, after the given ones."""
    events = list(events)
    launched = proposals(events)
    told = {event.trial for event in events if isinstance(event, Tell)}
    running = [proposal for proposal in launched if proposal.trial.id not in told]
    while True:
        proposal = search.ask() if len(running) < width else None
        if proposal is not None:
            launched.append(proposal)
            running.append(proposal)
            events.append(proposal)
        elif running:
            # Not in the order they were launched.
            ended = running.pop(len(running) // 2)
            told_now = result_of(ended, launched.index(ended), spec)
            search.tell(told_now.trial, told_now.curve, told_now.outcome)
            events.append(told_now)
        else:
            return events


def restored(
    cell: Cell, spec: StudySpec, first: list[dict[str, Any]], events: list[Event]
) -> CellSearch:
    """A search that was told of the events of an earlier session, as a ledger has them."""
    search = CellSearch(cell, spec, first)
    for event in events:
        if isinstance(event, Proposal):
            searched, sampler = json.loads(json.dumps([event.trial.searched, event.sampler]))
            search.recall(cell.trial("search", searched, cell.search_seed), sampler)
        else:
            search.tell(event.trial, event.curve, event.outcome)
    return search
