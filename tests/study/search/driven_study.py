"""A study without Ray: its search hands trials out, and what they do goes into records."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from study.ledger import Record, records
from study.planning.cells import PlannedTrial
from study.planning.extension import has_confirmed
from study.planning.plan import comparing
from study.search import PastTrials, Start, StudySearch
from tests.study.histories import facts, journal_of
from tests.study.small_study import small_plan


class DrivenStudy:
    """Starts trials and ends them; unless a value is given, settings and task decide what it is.

    `records` are all there are, those of earlier sessions (`before`) first.
    """

    def __init__(self, slots: int = 1, before: Sequence[Record] = (), **changes: Any) -> None:
        self.plan = small_plan(**{"retries": 0, **changes})
        self._before = list(before)
        self._written: list[Record] = []
        self.journal = journal_of(self._written, before)
        if has_confirmed(self.journal.history):
            self.plan = comparing(self.plan, self.journal.history.contrasts)
        compared = {"contrasts": self.plan.contrasts, "margin": self.plan.spec.margin}
        about = facts(self.plan.spec.to_plain(), **compared)
        self.journal.append(
            records.resumed(about) if before else records.study("small", "Does it go on?", about)
        )
        past = PastTrials(self.journal.history, self.plan)
        self.search = StudySearch(self.plan, self.journal, past, lambda: slots)

    @property
    def records(self) -> list[Record]:
        """All records, in their order."""
        return self._before + self._written

    def of(self, kind: str, **values: object) -> list[Record]:
        """The records of a kind with these values."""
        wanted = {"kind": kind, **values}
        return [record for record in self.records if wanted.items() <= record.items()]

    def next(self) -> PlannedTrial | Literal["wait", "over"]:
        """The next trial, if there is one; what an adapter records of it is recorded."""
        start = self.search.next()
        if not isinstance(start, Start):
            return start
        if start.goes_on:
            self.journal.append(records.continued(start.trial.id, 0))
        return start.trial

    def start(self) -> PlannedTrial:
        """The next trial, which must be there."""
        trial = self.next()
        assert not isinstance(trial, str), trial
        return trial

    def train(self, trial: PlannedTrial, tasks: int, value: float | None = None) -> None:
        """Tells what a trial measures after each of its first tasks; each is recorded once."""
        for task in range(1, tasks + 1):
            number = drawn(trial.searched, task) if value is None else value
            metrics = {"val/accuracy": number, "test/accuracy": number}
            self.search.note(trial, task, metrics)
            if task not in self.journal.history.trials[trial.id].tasks:
                self.journal.append(records.task(trial.id, task, metrics, [number] * task))

    def end(
        self, trial: PlannedTrial, value: float | None = None, tasks: int | None = None
    ) -> None:
        """Ends a trial after so many tasks, by default all that it is to see."""
        seen = trial.tasks if tasks is None else tasks
        self.train(trial, seen, value)
        self.search.end(trial, failed=False)
        status: records.Status = "completed" if seen == trial.tasks else "pruned"
        self.journal.append(records.end(trial.id, status))

    def fail(self, trial: PlannedTrial, node_failed: bool = False) -> bool:
        """Lets a trial fail; whether it will be handed out again."""
        if self.search.fail(trial, node_failed):
            return True
        self.search.end(trial, failed=True)
        self.journal.append(records.end(trial.id, "failed", "?", "error"))
        return False

    def run(self, value: float | None = None) -> list[Record]:
        """Runs trial after trial to the end; returns the records of those that were launched."""
        while not isinstance(trial := self.next(), str):
            self.end(trial, value)
        assert trial == "over"
        return self.of("trial")


def drawn(searched: Mapping[str, Any], task: int) -> float:
    """A value in [0, 1) that looks random but depends on the settings and the task alone."""
    text = json.dumps([dict(searched), task], sort_keys=True)
    return sum(ord(letter) * (at + 7) for at, letter in enumerate(text)) % 997 / 997
