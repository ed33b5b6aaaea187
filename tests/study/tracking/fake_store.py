"""A tracking store that keeps what is written in dictionaries, and who writes into it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from study.ledger import History, Record
from study.tracking.run_tree import RunTree
from study.tracking.runs import WHOLE, NewRun, Point, Store
from study.tracking.writer import LedgerWriter


class FakeStore:
    """Remembers what it is told, by the names of the runs; the same point twice is one.

    It can be `away`, by itself from certain calls for metrics on (`leaves_at`), and it refuses tags
    of the name `refuses`.
    """

    errors: tuple[type[Exception], ...] = (ConnectionError, PermissionError)

    def __init__(self) -> None:
        self.experiment: str | None = None
        self.away = False
        self.leaves_at: tuple[int, ...] = ()
        self.refuses: str | None = None
        self.calls = 0
        self.columns: Sequence[str] = ()
        self.charts: Sequence[str] = ()
        self.items: dict[str, str] = {}
        self.parents: dict[str, str | None] = {}
        self.tags: dict[str, dict[str, Any]] = {}
        self.params: dict[str, Mapping[str, Any]] = {}
        self.data: dict[str, Any] = {}
        self.metrics: dict[tuple[str, str, int, float], float] = {}
        self.status: dict[str, list[str]] = {}
        self.attached: dict[str, dict[str, Any]] = {}
        self.models: dict[str, tuple[str, str, Mapping[str, Any]]] = {}

    @property
    def whole(self) -> dict[str, int]:
        """The runs that are whole, and their tasks."""
        return {run: tags[WHOLE] for run, tags in self.tags.items() if WHOLE in tags}

    @property
    def last_status(self) -> dict[str, str]:
        """How runs stand at the end."""
        return {run: words[-1] for run, words in self.status.items()}

    def answers(self) -> bool:
        return not self.away

    def open_experiment(self, name: str, about: str, study_id: str) -> None:
        self._reach()
        self.experiment = "7"

    def show(self, columns: Sequence[str], charts: Sequence[str]) -> None:
        self.columns, self.charts = columns, charts

    def open_run(self, new: NewRun) -> tuple[str, bool]:
        self._reach()
        if new.item in self.items:
            assert self.items[new.item] == new.name
        else:
            assert new.name not in self.tags
            self.items[new.item], self.parents[new.name] = new.name, new.parent
            self.tags[new.name] = dict(new.tags)
        if new.name in self.whole:
            return new.name, True
        self.params[new.name] = new.params
        self.data |= {new.name: new.data} if new.data else {}
        return new.name, False

    def set_status(self, run: str, status: str, end: Record | None = None) -> None:
        if self.status.get(run, [""])[-1] != status:
            self.status.setdefault(run, []).append(status)

    def write_metrics(self, run: str, points: Iterable[Point]) -> None:
        self.calls += 1
        self.away = self.away or self.calls in self.leaves_at
        self._reach()
        for metrics, step, at in points:
            self.metrics |= {(run, key, step, at["time"]): value for key, value in metrics.items()}

    def write_tags(self, run: str, tags: Mapping[str, Any]) -> None:
        if self.refuses in tags:
            raise PermissionError(f"{self.refuses} is not taken")
        self.tags[run].update(tags)

    def attach(self, run: str, name: str, content: str | Callable[[], Any]) -> None:
        # What draws is looked at by its arguments.
        kept = content if isinstance(content, str) else getattr(content, "args", ())
        self.attached.setdefault(run, {})[name] = kept

    def register_model(self, run: str, folder: str, name: str, tags: Mapping[str, Any]) -> None:
        self.models[run] = (folder, name, tags)

    def curve(self, run: str, key: str) -> dict[int, float]:
        """Steps and values of a metric; a step written twice is an error."""
        kept = self.metrics.items()
        points = [(step, value) for (*name, step, _), value in kept if name == [run, key]]
        assert len(dict(points)) == len(points)
        return dict(points)

    def _reach(self) -> None:
        if self.away:
            raise ConnectionError("away")


def write_into(store: FakeStore, records: Iterable[Record], times: int = 1) -> None:
    """Writes to a store what each record says that was not known before it, so many times."""
    history = History()
    tree = RunTree(store, history)
    for record in records:
        if history.add(record):
            for _ in range(times):
                write_now(tree, record)


def write_now(tree: RunTree, record: Record) -> None:
    """Writes a record of which nothing is held."""
    tree.write(record)
    for trial in tree.held:
        tree.write_held(trial)


def write_all(records: Iterable[Record]) -> FakeStore:
    """A new store with all that the records say."""
    store = FakeStore()
    write_into(store, records)
    return store


def writer_of(ledger: Path, store: Store) -> LedgerWriter:
    """What writes a ledger into a store, neither waiting nor telling anybody."""
    return LedgerWriter(ledger, store, lambda seconds: True, lambda word, text: None)


class Driver:
    """Who runs a study, as its writer sees it: pauses are noted and not waited for.

    After each the store is back, unless the driver has no `patience`.
    """

    def __init__(self, store: FakeStore, patience: bool = True) -> None:
        self.pauses: list[float] = []
        self.heard: list[tuple[str, str | None]] = []
        self._store = store
        self._patience = patience

    def writer(self, ledger: Path) -> LedgerWriter:
        """What writes a ledger into the store."""
        return LedgerWriter(
            ledger, self._store, self._pause, lambda word, text: self.heard.append((word, text))
        )

    def _pause(self, seconds: float) -> bool:
        self.pauses.append(seconds)
        self._store.away = self._store.away and not self._patience
        return self._patience
