"""CellMeans: writes the means over the seeds of a cell's winner to the cell's run."""

from collections.abc import Mapping

from study.ledger import Record
from study.seed_means import SeedMeans, canonical
from study.tracked_store import Store


class CellMeans:
    """Knows each cell's present winner and what was written of it already."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._means = SeedMeans()
        self._winners: dict[str, Record] = {}
        self._written: dict[str, tuple[str, int]] = {}

    def add(self, trial: Record, tasks: Mapping[int, Mapping[str, float]]) -> None:
        """Adds a completed confirmation trial, once, with its metrics by task."""
        self._means.add(trial, tasks)

    def crown(self, winner: Record) -> None:
        """Takes in the winner of a cell; an extended study can find another one."""
        self._winners[winner["cell"]] = winner

    def last(self, trial: Record) -> dict[str, float]:
        """After the last task, the means over the trials that had the setting of `trial`."""
        tasks = self._means.of(trial["cell"], trial["searched"])
        return tasks[max(tasks)] if tasks else {}

    def write(self, cell: str, run: str, record: Record, least: int) -> None:
        """Writes the means by task to the cell's run.

        Nothing happens below `least` seeds, or where these means were written already.
        """
        winner = self._winners.get(cell)
        setting = {} if winner is None else winner["searched"]
        trials = self._means.trials(cell, setting)
        done = (canonical(setting), trials)
        if not trials or trials < least or self._written.get(cell) == done:
            return
        for task, metrics in self._means.of(cell, setting).items():
            self._store.write_metrics(run, metrics, task, record)
        self._store.write_tags(run, {"confirmed_seeds": trials})
        self._written[cell] = done
