"""RunTree: turns the records of a study into a tree of tracked runs: study → cells → trials."""

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from study.ledger import Record

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
    "tags.`status`",
)


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

    def attach_spec(self, run: str, spec: Mapping[str, Any]) -> None:
        """Attaches the study file."""
        ...

    def attach_results(self, run: str, name: str, rank: Any, tasks: Mapping[int, Record]) -> None:
        """Attaches what a whole trial came to, given its task records."""
        ...


class RunTree:
    """Writes records, in the order of the ledger, into a store.

    It remembers what it was told before it asks the store for anything, and opens runs when they
    are needed. So after a time without a server only the records of that time are missing.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[str, Record] = {}
        self._names: dict[str, str] = {}
        self._counts: dict[tuple[str, str], int] = {}
        self._runs: dict[str, str] = {}
        self._ended: dict[str, str] = {}
        self._tasks: dict[str, dict[int, Record]] = {}
        self._averaged: dict[str, int] = {}
        self._kinds: dict[str, Callable[[Record], None]] = {
            "study": self._study,
            "cell": self._cell,
            "trial": self._trial,
            "task": self._task,
            "end": self._end,
            "winner": self._winner,
            "failed_cell": self._failed_cell,
            "finished": self._finished,
        }

    def write(self, record: Record) -> None:
        """Writes one record.

        Raises:
            KeyError: if it is of an unknown kind or about a trial that was never announced.
        """
        self._kinds[record["kind"]](record)

    def _study(self, record: Record) -> None:
        started = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(record["time"]))
        self._announce("study", record, f"{record['name']} · {started}")

    def _cell(self, record: Record) -> None:
        name = " · ".join(_short(*item) for item in record["key"].items())
        if self._announce(record["cell"], record, name):
            cells = [known for known in self._known.values() if known["kind"] == "cell"]
            searched = dict.fromkeys(key for known in cells for key in known["search"])
            self._store.show_columns([*COLUMNS, *(f"params.`{key}`" for key in searched)])

    def _trial(self, record: Record) -> None:
        cell, role = record["cell"], record["role"]
        number = self._counts.get((cell, role), 0) + 1
        label = f"seed {record['seed']} (confirm)" if role == "confirm" else f"search {number:02d}"
        if record["trial"] not in self._known:
            self._counts[cell, role] = number
        # What tells it from its neighbours comes first: lists cut names short.
        self._announce(record["trial"], record, f"{label} · {self._names[cell]}")

    def _task(self, record: Record) -> None:
        trial, task = record["trial"], record["task"]
        confirm = self._known[trial]["role"] == "confirm"
        tasks = self._tasks.setdefault(trial, {})
        # After a restore a task can come again, with the same numbers but for its times.
        if task not in tasks:
            run = self._running(trial)
            self._store.write_metrics(run, finite(record["metrics"]), task, record)
        tasks[task] = record if confirm else {}

    def _end(self, record: Record) -> None:
        trial, status = record["trial"], record["status"]
        known = self._known[trial]
        if self._ended.get(trial) == status:
            return
        run = self._run(trial)
        error = {"error": record["error"]} if record["error"] else {}
        self._store.write_tags(run, {"status": status, **error})
        if status == "completed" and known["role"] == "confirm":
            tasks, rank = self._tasks.get(trial, {}), known["params"].get("method.rank")
            self._store.attach_results(run, self._names[trial], rank, tasks)
        self._close(trial, status, record)
        planned = self._known["study"]["spec"].get("seeds")
        seeds = len(planned) if isinstance(planned, list | tuple) else planned
        if len(self._confirmed(known["cell"])) == seeds:
            self._average(known["cell"], record)

    def _winner(self, record: Record) -> None:
        run = self._run(record["cell"])
        # Tags, since a study that is extended can find another winner and a param cannot change.
        best = {f"best/{key}": value for key, value in record["searched"].items()}
        self._store.write_tags(
            run, {**best, "best trial": self._names.get(record["trial"], "none")}
        )
        if record["value"] is not None:
            value = finite({f"best/{record['objective']}": record["value"]})
            self._store.write_metrics(run, value, 0, record)

    def _failed_cell(self, record: Record) -> None:
        """A cell whose search found no winner: it closes as completed, but says why it is empty."""
        self._store.write_tags(self._run(record["cell"]), {"error": record["error"]})

    def _finished(self, record: Record) -> None:
        status = record["status"]
        for item, known in self._known.items():
            if known["kind"] == "trial" and item in self._runs and item not in self._ended:
                self._close(item, "interrupted", record)
        for item, known in self._known.items():
            if known["kind"] == "cell" and status == "completed":
                self._average(item, record)
            if known["kind"] in ("cell", "study"):
                self._store.write_tags(self._run(item), {"status": status})
                self._close(item, status, record)
        wall = {"wall_seconds": round(record["wall_seconds"], 1)}
        self._store.write_tags(self._run("study"), wall)

    def _announce(self, item: str, record: Record, name: str) -> bool:
        """Opens the run of an item, or opens it again; True when it was not known before."""
        new = item not in self._known
        if new:
            self._known[item], self._names[item] = record, name
        self._running(item)
        return new

    def _running(self, item: str) -> str:
        """Returns the run of an item, which is running again if it had ended."""
        run = self._run(item)
        if self._ended.pop(item, None):
            self._store.set_status(run, "RUNNING", None)
        return run

    def _run(self, item: str) -> str:
        """Returns the run of an item; opens it and its parents if need be."""
        if item not in self._runs:
            record = self._known[item]
            parent = None
            if record["kind"] == "study":
                text = f"{record['name']} {record['time']}"
                study_id = hashlib.sha256(text.encode()).hexdigest()[:16]
                self._store.open_experiment(record["name"], record["question"], study_id)
                self._store.show_columns(COLUMNS)
            else:
                parent = self._run("study" if record["kind"] == "cell" else record["cell"])
            run = self._store.open_run(item, self._names[item], parent, _tags(record), record)
            self._store.write_params(run, _params(record))
            if record["kind"] == "study":
                self._store.attach_spec(run, record["spec"])
            self._runs[item] = run
        return self._runs[item]

    def _close(self, item: str, status: str, record: Record) -> None:
        self._store.set_status(self._run(item), STATUS[status], record)
        self._ended[item] = status

    def _confirmed(self, cell: str) -> list[str]:
        """Confirmations of a cell that completed."""
        trials = [item for item, status in self._ended.items() if status == "completed"]
        return [
            trial
            for trial in trials
            if self._known[trial].get("role") == "confirm" and self._known[trial]["cell"] == cell
        ]

    def _average(self, cell: str, record: Record) -> None:
        """Writes every metric's mean over the confirmed seeds to the cell's run, by task."""
        trials = self._confirmed(cell)
        if not trials or self._averaged.get(cell) == len(trials):
            return
        run = self._run(cell)
        tasks = [self._tasks.get(trial, {}) for trial in trials]
        for task in sorted(set.intersection(*map(set, tasks))):
            seeds = [finite(one[task]["metrics"]) for one in tasks]
            shared = sorted(set.intersection(*map(set, seeds)))
            means = {key: math.fsum(one[key] for one in seeds) / len(seeds) for key in shared}
            self._store.write_metrics(run, means, task, record)
        self._store.write_tags(run, {"confirmed_seeds": len(trials)})
        self._averaged[cell] = len(trials)


def finite(metrics: Mapping[str, float | None]) -> dict[str, float]:
    """Returns the metrics that have a finite value."""
    return {
        key: float(value)
        for key, value in metrics.items()
        if value is not None and math.isfinite(value)
    }


def _tags(record: Record) -> dict[str, Any]:
    """Tags of the run that a record opens."""
    tags = {"mlflow.source.name": "study/run.py", "mlflow.source.type": "LOCAL"}
    keys: tuple[str, ...] = ("role", "cell", "seed", "trial")
    if record["kind"] == "study":
        versions = ", ".join(f"{name} {one}" for name, one in record["versions"].items())
        keys = ("question", "commit", "host", "chance")
        tags |= {"role": "study", "versions": versions, "mlflow.note.content": record["question"]}
        # Ledgers of before the data sets of files have none.
        tags |= {f"split of {name}": sha256 for name, sha256 in record.get("data", {}).items()}
        if record["commit"]:
            tags["mlflow.source.git.commit"] = record["commit"]
    elif record["kind"] == "cell":
        keys = ("cell",)
        tags["role"] = "cell"
    return tags | {key: record[key] for key in keys}


def _params(record: Record) -> dict[str, Any]:
    """Params of the run that a record opens."""
    if record["kind"] == "trial":
        return dict(record["params"])
    if record["kind"] == "cell":
        # Ranges under a prefix: beside them the column of a searched key stays numeric.
        ranges = {f"range/{key}": value for key, value in record["search"].items()}
        return {**record["fixed"], **record["key"], **ranges}
    return {}


def _short(key: str, value: Any) -> str:
    """A cell's key and value as a person would say them."""
    if key == "data.tasks":
        return f"{value} tasks"
    return value if isinstance(value, str) else f"{key.rpartition('.')[2]} {json.dumps(value)}"
