"""Runs: the run of each item of a study in a store, its tags and params; what a store must do."""

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from study.ledger import History, Record, labels
from study.report import yaml_text

STUDY = "study"
SPLIT = "data.split_sha256"
# The tag of a trial's run that the store holds up to its end: how many tasks it has seen.
WHOLE = "tasks"
USES = {"search": "training, validation", "confirm": "training, test"}
STATUS = {
    "completed": "FINISHED",
    "pruned": "FINISHED",
    "failed": "FAILED",
    "interrupted": "KILLED",
}
# What the charts of a study's cells begin with.
CHARTS = ("test/accuracy", "test/forgetting", "subspace/dim_free", "subspace/exhausted_layers")
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


class DataSet(NamedTuple):
    """What a run reads: a data set, its split and numbers of classes and images, and for what."""

    name: str
    sha256: str
    sizes: Mapping[str, int]
    use: str


class Point(NamedTuple):
    """Metrics of a step, at the time of a record."""

    metrics: Mapping[str, float]
    step: int
    at: Record


@dataclass(frozen=True)
class NewRun:
    """The run that an item (a study, cell or trial) has; `record` is the item's first."""

    item: str
    name: str
    parent: str | None
    tags: Mapping[str, Any]
    params: Mapping[str, Any]
    data: DataSet | None
    record: Record


class Store(Protocol):
    """A tracking store; writing the same again changes nothing.

    `errors` are what it raises where it is away or refuses something, `experiment` is the id of
    the open experiment.
    """

    errors: tuple[type[Exception], ...]
    experiment: str | None

    def answers(self) -> bool:
        """Whether it can be reached."""

    def open_experiment(self, name: str, about: str, study_id: str) -> None:
        """Finds or makes an experiment, and finds the runs it has of a study."""

    def show(self, columns: Sequence[str], charts: Sequence[str]) -> None:
        """Sets what the experiment opens with: columns of its list of runs, metrics of charts."""

    def open_run(self, new: NewRun) -> tuple[str, bool]:
        """Finds or makes a run; its id, and whether it was WHOLE, which is left as it is."""

    def set_status(self, run: str, status: str, end: Record | None = None) -> None:
        """Sets MLflow's word for how a run stands, and with `end` when it ended."""

    def write_metrics(self, run: str, points: Iterable[Point]) -> None:
        """Writes metrics of one or more steps, together."""

    def write_tags(self, run: str, tags: Mapping[str, Any]) -> None:
        """Writes tags over those of the same names."""

    def attach(self, run: str, name: str, content: str | Callable[[], object]) -> None:
        """Attaches a file: text, or what a function draws."""

    def register_model(self, run: str, folder: str, name: str, tags: Mapping[str, Any]) -> None:
        """Attaches merged weights, a folder of the study's, and registers them as a version."""


@dataclass
class Item:
    """The study, a cell or a trial: its first record, what its run is called and belongs to.

    `run` is the id once the store has it, `whole` whether it had all of it already; `status` how
    it has ended there, `place` where its trial ran last.
    """

    record: Record
    name: str
    parent: str | None
    run: str = ""
    whole: bool = False
    status: str = ""
    place: dict[str, Any] = field(default_factory=dict)


class Runs:
    """Items by id (that of the study is "study"), each known before the store is asked for its run.

    So a record that the store could not take can be written again.
    """

    def __init__(self, store: Store, history: History) -> None:
        self._store = store
        self._history = history
        self.items: dict[str, Item] = {}
        # Classes and images of the splits, by their hash.
        self.splits: dict[str, dict[str, int]] = {}

    def announce(self, item: str, record: Record, name: str) -> None:
        """Opens the run of an item, or opens it again."""
        parent = {"study": None, "cell": STUDY}.get(record["kind"], record.get("cell"))
        self.items.setdefault(item, Item(record, name, parent))
        self.running(item)

    def opened(self, item: str) -> Item:
        """An item whose run the store has, ended or not.

        Raises:
            KeyError: if it was never announced.
        """
        known = self.items[item]
        if not known.run:
            record = known.record
            if known.parent is None:
                text = f"{record['name']} {record['time']}"
                study_id = hashlib.sha256(text.encode()).hexdigest()[:16]
                self._store.open_experiment(record["name"], record["question"], study_id)
                self._store.show(COLUMNS, CHARTS)
            run, known.whole = self._store.open_run(self._new(item, known))
            if known.parent is None:
                self._store.attach(run, "study.yaml", yaml_text(record["spec"]))
            known.run = run
        return known

    def running(self, item: str) -> Item:
        """An item whose run goes on, again if it had ended, and with it what it belongs to."""
        known = self.opened(item)
        if known.parent is not None:
            self.running(known.parent)
        if known.status and not known.whole:
            self._store.set_status(known.run, "RUNNING")
            known.status = ""
        return known

    def close(self, item: str, status: str, record: Record) -> None:
        """Ends the run of an item."""
        known = self.opened(item)
        self._store.set_status(known.run, STATUS[status], record)
        known.status = status

    def _new(self, item: str, known: Item) -> NewRun:
        record, tags, data = known.record, _tags_of(known.record), None
        if record["kind"] == "trial":
            tags |= _trial_tags(record, self._history)
            sha256 = record["params"].get(SPLIT)
            if sha256 in self.splits:
                name, use = record["params"]["data.name"], USES[record["role"]]
                data = DataSet(name, sha256, self.splits[sha256], use)
        parent = None if known.parent is None else self.opened(known.parent).run
        return NewRun(item, known.name, parent, tags, _params_of(record), data, record)


def _tags_of(record: Record) -> dict[str, Any]:
    """Tags of the run that a record opens."""
    tags = {"mlflow.source.name": "study/run.py", "mlflow.source.type": "LOCAL"}
    keys: tuple[str, ...] = ("role", "cell", "seed", "trial")
    if record["kind"] == "study":
        keys = ("question",)
        tags |= {
            "role": "study",
            "mlflow.note.content": record["question"],
            **provenance_tags(record),
        }
    elif record["kind"] == "cell":
        keys = ("cell",)
        tags["role"] = "cell"
    return tags | {key: record[key] for key in keys}


def provenance_tags(record: Record) -> dict[str, Any]:
    """Tags that tell what code and data a session of a study ran with."""
    tags = {key: record[key] for key in ("commit", "host", "chance")}
    tags["versions"] = _versions(record["versions"])
    tags |= {f"split of {name}": sha256 for name, sha256 in record["data"].items()}
    if record["commit"]:
        tags["mlflow.source.git.commit"] = record["commit"]
    return tags


def _trial_tags(trial: Record, history: History) -> dict[str, Any]:
    """Tags of a trial's run beside those of `tags_of`: code, data and rules that it ran with.

    `history` is as of the session that launched it.
    """
    protocol = labels.protocol(spec_of(history)).get("protocol")
    session, params = history.sessions[-1], trial["params"]
    tags = {
        "protocol": history.cells[trial["cell"]].key.get(labels.PROTOCOL, protocol),
        "preset": params.get("preset"),
        "split_sha256": params.get("data.split_sha256"),
        "commit": session.commit,
        "versions": _versions(session.versions),
        "mlflow.source.git.commit": session.commit,
    }
    return {key: value for key, value in tags.items() if value is not None}


def _params_of(record: Record) -> dict[str, Any]:
    """Params of the run that a record opens."""
    if record["kind"] == "trial":
        return dict(record["params"])
    if record["kind"] == "cell":
        # Ranges under a prefix: beside them the column of a searched key stays numeric.
        ranges = {
            f"range/{key}": labels.range_text(searched)
            for key, searched in record["search"].items()
        }
        return {**record["fixed"], **record["key"], **ranges}
    return {}


def spec_of(history: History) -> Mapping[str, Any]:
    """The study file as of the newest session."""
    return {} if history.study is None else history.study.spec


def finite(metrics: Mapping[str, float | None]) -> dict[str, float]:
    """Returns the metrics that have a finite value."""
    return {
        key: float(value)
        for key, value in metrics.items()
        if value is not None and math.isfinite(value)
    }


def _versions(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())
