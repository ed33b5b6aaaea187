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

    def set_status(self, run: str, status: str, record: Record | None) -> None:
        """Sets MLflow's word for how a run stands, and its end unless `record` is None."""
        ...

    def write_metrics(self, run: str, metrics: Mapping[str, float], step: int, at: Record) -> None:
        """Writes metrics at the time of a record."""
        ...

    def write_params(self, run: str, params: Mapping[str, Any]) -> None:
        """Writes params, which never change."""
        ...

    def write_tags(self, run: str, tags: Mapping[str, Any]) -> None:
        """Writes tags over those of the same names."""
        ...

    def attach_spec(self, run: str, spec: Mapping[str, Any], name: str) -> None:
        """Attaches the study file under a name."""
        ...

    def attach_results(self, run: str, name: str, rank: Any, tasks: Mapping[int, Record]) -> None:
        """Attaches what a whole trial came to, given its task records."""
        ...

    def attach_front(
        self,
        run: str,
        title: str,
        objective: Mapping[str, str],
        tried: Sequence[Mapping[str, float]],
        front: Mapping[int, Mapping[str, float]],
    ) -> None:
        """Attaches a picture of a Pareto front: metric to max or min, and the values of settings.

        `tried` are the settings of all search trials that completed, `front` those by number.
        """
        ...
