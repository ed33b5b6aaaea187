"""TrialNotes: what a tracked trial's run has beside its metrics: where it ran, data, artifacts."""

from collections.abc import Mapping
from typing import Any

from study.ledger import Record
from study.tracked_store import Store

SPLIT = "data.split_sha256"
USES = {"search": "training, validation", "confirm": "training, test"}


class TrialNotes:
    """Writes them to a store, given the runs; the same again changes nothing."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._checkpoints: dict[str, Record] = {}
        self._places: dict[str, dict[str, Any]] = {}
        self._sizes: dict[str, Mapping[str, int]] = {}

    def begin(self, session: Record) -> None:
        """Takes the record of a session, which knows the splits of the data."""
        self._sizes |= session.get("splits", {})

    def checkpoint(self, record: Record) -> None:
        """Takes the record of a trial's newest checkpoint."""
        self._checkpoints[record["trial"]] = record

    def data(self, run: str, record: Record) -> None:
        """Names the data set of a trial, where the study knows its split."""
        if record["kind"] != "trial" or record["params"].get(SPLIT) not in self._sizes:
            return
        params = record["params"]
        sizes, use = self._sizes[params[SPLIT]], USES[record["role"]]
        self._store.write_data(run, params["data.name"], params[SPLIT], sizes, use)

    def place(self, trial: str, run: str, record: Record) -> None:
        """Tells where a trial runs: on another node perhaps, once it was restarted."""
        place = {key: record[key] for key in ("host", "device") if record.get(key)}
        if place and self._places.get(trial) != place:
            self._store.write_tags(run, place)
            self._places[trial] = place

    def attach(self, trial: Record, run: str, name: str, tasks: Mapping[int, Record]) -> None:
        """Attaches what is kept of a confirmation: settings, accuracy matrix, pictures."""
        params = trial["params"]
        self._store.attach_yaml(run, "config.yaml", params)
        self._store.attach_results(run, name, params.get("method.rank"), tasks)
        self.tell_checkpoint(trial["trial"], run)

    def tell_checkpoint(self, trial: str, run: str) -> None:
        """Tells the newest checkpoint of a confirmation, which stays: folder, and size on disk.

        `memory/checkpoint_bytes` among the metrics is that of the tensors in it.
        """
        found = self._checkpoints.get(trial)
        if found is None:
            return
        size = {"checkpoint bytes": sum(found["files"].values())} if "files" in found else {}
        self._store.write_tags(run, {"checkpoint": found["path"], **size})
