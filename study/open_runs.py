"""OpenRuns: the runs of a study's items in a store: opened when needed, closed, opened again."""

import hashlib
from typing import Any

from study.ledger import Record
from study.run_words import params_of, tags_of, trial_tags
from study.tracked_store import Store
from study.trial_notes import TrialNotes

STATUS = {
    "completed": "FINISHED",
    "pruned": "FINISHED",
    "failed": "FAILED",
    "interrupted": "KILLED",
}
# What the list of runs shows first; the keys that are searched follow.
COLUMNS = (
    "attributes.`Duration`",
    "metrics.`test/accuracy`",
    "metrics.`test/forgetting`",
    "metrics.`val/accuracy`",
    "metrics.`subspace/dim_free`",
    "tags.`role`",
    "tags.`status`",
)


class OpenRuns:
    """Which items (study, cells, trials) there are, what their runs are called, how they ended.

    An item is known before the store is asked for its run, so that what the store could not take
    can be written again.
    """

    def __init__(self, store: Store, notes: TrialNotes) -> None:
        self._store = store
        self._notes = notes
        self.known: dict[str, Record] = {}
        self.names: dict[str, str] = {}
        self.ended: dict[str, str] = {}
        # How trials ended whose end was not written yet.
        self.ending: dict[str, Record] = {}
        self.session: Record = {}
        self._runs: dict[str, str] = {}
        self._spoiled: set[str] = set()

    def begin(self, record: Record) -> None:
        """Takes in the record that opens a session."""
        self.session = record
        self._notes.begin(record)

    def spoil(self, trial: str) -> None:
        """A record of a trial could not be written: its run is never marked whole."""
        self._spoiled.add(trial)

    def of_kind(self, *kinds: str) -> dict[str, Record]:
        """The known items whose record is of one of these kinds."""
        return {item: one for item, one in self.known.items() if one["kind"] in kinds}

    def announce(self, item: str, record: Record, name: str) -> bool:
        """Opens the run of an item, or opens it again; True when it was not known before."""
        new = item not in self.known
        if new:
            self.known[item], self.names[item] = record, name
        self.running(item)
        return new

    def running(self, item: str) -> str:
        """Returns the run of an item, which is running again if it had ended, as its cell is."""
        run = self.run(item)
        cell = self.known[item]["cell"] if self.known[item]["kind"] == "trial" else item
        for one in dict.fromkeys((item, cell)):
            self.ending.pop(one, None)
            if self.ended.pop(one, None) and not self._store.is_whole(one):
                self._store.set_status(self.run(one), "RUNNING", None)
        return run

    def run(self, item: str) -> str:
        """Returns the run of an item; opens it and its parents if need be."""
        if item not in self._runs:
            record = self.known[item]
            parent = None
            if record["kind"] == "study":
                text = f"{record['name']} {record['time']}"
                study_id = hashlib.sha256(text.encode()).hexdigest()[:16]
                self._store.open_experiment(record["name"], record["question"], study_id)
                self._store.show_columns(COLUMNS)
            else:
                parent = self.run("study" if record["kind"] == "cell" else record["cell"])
            run = self._store.open_run(item, self.names[item], parent, self._tags(item), record)
            if not self._store.is_whole(item):
                self._store.write_params(run, params_of(record))
                self._notes.data(run, record)
            if record["kind"] == "study":
                self._store.attach_yaml(run, "study.yaml", record["spec"])
            self._runs[item] = run
        return self._runs[item]

    def close(self, item: str, status: str, record: Record, tasks: int = 0) -> None:
        """Ends the run of an item; that of a trial which ended by itself is whole, with `tasks`."""
        run = self.run(item)
        self._store.set_status(run, STATUS[status], record)
        ended = self.known[item]["kind"] == "trial" and status != "interrupted"
        if ended and item not in self._spoiled:
            self._store.mark_whole(run, tasks)
        self.ended[item] = status

    def left_open(self) -> list[str]:
        """Trials whose run is open."""
        trials = self.of_kind("trial")
        return [item for item in trials if item in self._runs and item not in self.ended]

    def _tags(self, item: str) -> dict[str, Any]:
        record = self.known[item]
        tags = tags_of(record)
        if record["kind"] == "trial":
            tags |= trial_tags(record, self.session, self.known[record["cell"]])
        return tags
