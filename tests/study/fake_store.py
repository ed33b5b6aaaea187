"""Tracking stores that keep what a run tree writes in dictionaries; one is unsteady."""

from collections.abc import Mapping, Sequence
from typing import Any

from study.ledger import Record
from study.run_tree import RunTree


class FakeStore:
    """Remembers what it is told, by the names of the runs; the same point twice is one."""

    def __init__(self) -> None:
        self.away = False
        self.columns: Sequence[str] = ()
        self.parents: dict[str, str | None] = {}
        self.tags: dict[str, dict[str, Any]] = {}
        self.params: dict[str, dict[str, Any]] = {}
        self.metrics: dict[tuple[str, str, int, float], float] = {}
        self.status: dict[str, list[str]] = {}
        self.attached: dict[str, list[tuple[Any, list[int]]]] = {}
        self.specs: list[tuple[str, dict[str, Any]]] = []
        self.whole: set[str] = set()
        self.marked: dict[str, int] = {}
        self.data: dict[str, Any] = {}
        self.configs: dict[str, dict[str, Any]] = {}
        self.models: list[tuple[str, str, str, dict[str, Any]]] = []
        self.fronts: list[tuple[str, list[Any], dict[int, Any]]] = []

    def open_experiment(self, name: str, about: str, study_id: str) -> None:
        self._reach()

    def show_columns(self, columns: Sequence[str]) -> None:
        self.columns = columns

    def open_run(
        self, item: str, name: str, parent: str | None, tags: Mapping[str, Any], record: Record
    ) -> str:
        self._reach()
        assert name not in self.parents
        self.parents[name] = parent
        self.tags[name] = dict(tags)
        return name

    def set_status(self, run: str, status: str, record: Record | None) -> None:
        self.status.setdefault(run, []).append(status)

    def write_metrics(self, run: str, metrics: Mapping[str, float], step: int, at: Record) -> None:
        self._reach()
        self.metrics |= {(run, key, step, at["time"]): value for key, value in metrics.items()}

    def write_params(self, run: str, params: Mapping[str, Any]) -> None:
        self.params[run] = dict(params)

    def write_tags(self, run: str, tags: Mapping[str, Any]) -> None:
        self.tags[run].update(tags)

    def is_whole(self, item: str) -> bool:
        return item in self.whole

    def mark_whole(self, run: str, tasks: int) -> None:
        self.marked[run] = tasks

    def flush(self) -> None: ...

    def write_data(
        self, run: str, name: str, sha256: str, sizes: Mapping[str, int], use: str
    ) -> None:
        self.data[run] = (name, sha256, dict(sizes), use)

    def attach_yaml(self, run: str, name: str, plain: Mapping[str, Any]) -> None:
        if name == "config.yaml":
            self.configs[run] = dict(plain)
        else:
            self.specs.append((name, dict(plain)))

    def register_model(self, run: str, folder: str, name: str, tags: Mapping[str, Any]) -> None:
        self.models.append((run, folder, name, dict(tags)))

    def attach_results(self, run: str, name: str, rank: Any, tasks: Mapping[int, Record]) -> None:
        self.attached.setdefault(run, []).append((rank, sorted(tasks)))

    def attach_front(
        self,
        run: str,
        title: str,
        objective: Mapping[str, str],
        tried: Sequence[Mapping[str, float]],
        front: Mapping[int, Mapping[str, float]],
    ) -> None:
        self.fronts.append((run, list(tried), dict(front)))

    def curve(self, run: str, key: str) -> dict[int, float]:
        """Steps and values of a metric; a step written twice is an error."""
        points = [
            (step, value)
            for (one, name, step, _), value in self.metrics.items()
            if (one, name) == (run, key)
        ]
        assert len(dict(points)) == len(points)
        return dict(points)

    def _reach(self) -> None:
        if self.away:
            raise ConnectionError("away")


class PermissionDeniedError(Exception):
    """As MLflow's own, of a request that was answered."""


class UnsteadyStore(FakeStore):
    """The pretended store, which can be away, and can refuse what is of one kind."""

    errors = (ConnectionError, PermissionDeniedError)

    def __init__(self) -> None:
        super().__init__()
        self.refuses: str | None = None
        self.how: type[Exception] = PermissionDeniedError
        self.skipped = 0
        self.calls = 0
        self.leaves_at: tuple[int, ...] = ()

    def answers(self) -> bool:
        return not self.away

    def begin(self) -> None: ...

    def skip(self) -> bool:
        self.skipped += 1
        return False

    def write_tags(self, run: str, tags: dict[str, Any]) -> None:  # type: ignore[override]
        if self.refuses in tags:
            raise self.how(f"{self.refuses} is not taken")
        super().write_tags(run, tags)

    def write_metrics(self, run: str, metrics: Any, step: int, at: Record) -> None:
        self.calls += 1
        self.away = self.away or self.calls in self.leaves_at
        super().write_metrics(run, metrics, step, at)


def write_all(records: Sequence[Record]) -> FakeStore:
    store = FakeStore()
    tree = RunTree(store)
    for record in records:
        tree.write(record)
    return store
