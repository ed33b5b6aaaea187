"""What a run tree needs of a tracking store."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from study.ledger import Record


class Store(Protocol):
    """A tracking store as a run tree needs it; writing the same again changes nothing."""

    def open_experiment(self, name: str, about: str, study_id: str) -> None:
        """Finds or makes an experiment, and finds the runs it has of a study."""
        ...

    def show_columns(self, columns: Sequence[str]) -> None:
        """Sets the columns that the experiment's list of runs opens with."""
        ...

    def open_run(
        self, item: str, name: str, parent: str | None, tags: Mapping[str, Any], record: Record
    ) -> str:
        """Finds or makes the run of an item and returns its id; a new one begins at `record`."""
        ...

    def is_whole(self, item: str) -> bool:
        """Whether the store held all of an item's run, up to its end, when it was opened."""
        ...

    def set_status(self, run: str, status: str, record: Record | None) -> None:
        """Sets MLflow's word for how a run stands, and its end unless `record` is None."""
        ...

    def mark_whole(self, run: str, tasks: int) -> None:
        """Notes in the store that a run with so many tasks has come to its end there."""
        ...

    def write_metrics(self, run: str, metrics: Mapping[str, float], step: int, at: Record) -> None:
        """Writes metrics at the time of a record; the store may keep them back until `flush`."""
        ...

    def flush(self) -> None:
        """Writes the metrics that were kept back."""
        ...

    def write_params(self, run: str, params: Mapping[str, Any]) -> None:
        """Writes params, which never change."""
        ...

    def write_tags(self, run: str, tags: Mapping[str, Any]) -> None:
        """Writes tags over those of the same names."""
        ...

    def write_data(
        self, run: str, name: str, sha256: str, sizes: Mapping[str, int], use: str
    ) -> None:
        """Names the data set that a run reads: by the hash of its split, its sizes, and for what.

        What a data set is, a store holds once for all runs; what it is used for, for each.
        """
        ...

    def attach_yaml(self, run: str, name: str, plain: Mapping[str, Any]) -> None:
        """Attaches plain data as a YAML file called `name`."""
        ...

    def attach_results(self, run: str, name: str, rank: Any, tasks: Mapping[int, Record]) -> None:
        """Attaches the accuracy matrix and pictures of a trial's task records, by task."""
        ...

    def attach_front(
        self,
        run: str,
        title: str,
        objective: Mapping[str, str],
        tried: Sequence[Mapping[str, float]],
        front: Mapping[int, Mapping[str, float]],
    ) -> None:
        """Attaches a picture of what the trials of a cell reached, and of its front by number."""
        ...

    def register_model(self, run: str, folder: str, name: str, tags: Mapping[str, Any]) -> None:
        """Attaches merged weights, a folder of the study's, and registers them as a version."""
        ...
