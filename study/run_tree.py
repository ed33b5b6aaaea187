"""RunTree: turns the records of a study into a tree of tracked runs: study → cells → trials."""

import hashlib
import time
from collections.abc import Callable, Mapping
from typing import Any

from study.ledger import Record
from study.run_words import finite, params_of, provenance_tags, short, tags_of
from study.seed_means import SeedMeans, canonical
from study.session_walls import SessionWalls
from study.tracked_store import Store

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


class RunTree:
    """Writes records, in the order of the ledger, into a store.

    It remembers what it was told before it asks the store for anything, and opens runs when they
    are needed. So after a time without a server only the records of that time are missing. Kinds
    that are not known here are passed over.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[str, Record] = {}
        self._names: dict[str, str] = {}
        self._counts: dict[tuple[str, str], int] = {}
        self._runs: dict[str, str] = {}
        self._ended: dict[str, str] = {}
        self._tasks: dict[str, dict[int, Record]] = {}
        self._reached: dict[str, dict[str, dict[str, float]]] = {}
        self._means = SeedMeans()
        self._winners: dict[str, Record] = {}
        self._settings: dict[str, dict[str, int]] = {}
        self._averaged: dict[str, tuple[str, int]] = {}
        self._spec: Mapping[str, Any] = {}
        self._sessions = SessionWalls()
        # Numbers of the later sessions by when they began, and those the store was told of.
        self._resumptions: dict[float, int] = {}
        self._told: set[int] = set()
        self._kinds: dict[str, Callable[[Record], None]] = {
            "study": self._study,
            "resumed": self._resumed,
            "cell": self._cell,
            "trial": self._trial,
            "task": self._task,
            "end": self._end,
            "winner": self._winner,
            "front": self._front,
            "failed_cell": self._failed_cell,
            "estimate": self._estimate,
            "finished": self._finished,
        }

    def write(self, record: Record) -> None:
        """Writes one record.

        Raises:
            KeyError: if it is about a cell or a trial that was never announced.
        """
        self._sessions.take(record)
        writes = self._kinds.get(record["kind"])
        if writes is not None:
            writes(record)

    def _study(self, record: Record) -> None:
        self._spec = record["spec"]
        started = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(record["time"]))
        self._announce("study", record, f"{record['name']} · {started}")

    def _resumed(self, record: Record) -> None:
        """A later session: the study runs again, of another commit perhaps."""
        self._spec = record["spec"]
        number = self._resumptions.setdefault(record["time"], len(self._resumptions) + 2)
        run = self._running("study")
        if number not in self._told:
            self._store.write_tags(run, {**provenance_tags(record), "sessions": number})
            self._store.attach_spec(run, record["spec"], f"study_{number}.yaml")
            self._told.add(number)

    def _cell(self, record: Record) -> None:
        name = " · ".join(short(*item) for item in record["key"].items())
        if self._announce(record["cell"], record, name):
            cells = [known for known in self._known.values() if known["kind"] == "cell"]
            searched = dict.fromkeys(key for known in cells for key in known["search"])
            self._store.show_columns([*COLUMNS, *(f"params.`{key}`" for key in searched)])

    def _trial(self, record: Record) -> None:
        if record["trial"] in self._known:
            self._running(record["trial"])
            return
        cell, role = record["cell"], record["role"]
        if role == "confirm":
            number = self._number(cell, record["searched"])
            several = len(self._settings[cell]) > 1
            point = f", point {number}" if several else ""
            label = f"seed {record['seed']} (confirm{point})"
        else:
            self._counts[cell, role] = self._counts.get((cell, role), 0) + 1
            label = f"search {self._counts[cell, role]:02d}"
        # What tells it from its neighbours comes first: lists cut names short.
        self._announce(record["trial"], record, f"{label} · {self._names[cell]}")

    def _task(self, record: Record) -> None:
        trial, task = record["trial"], record["task"]
        known = self._known[trial]
        tasks = self._tasks.setdefault(trial, {})
        # After a restore a task can come again, with the same numbers but for its times.
        if task in tasks:
            return
        metrics = finite(record["metrics"])
        self._store.write_metrics(self._running(trial), metrics, task, record)
        tasks[task] = record if known["role"] == "confirm" else {}
        if known["role"] == "search" and len(self._objective) > 1:
            values = {key: metrics[key] for key in self._objective if key in metrics}
            self._reached.setdefault(known["cell"], {})[trial] = values

    def _end(self, record: Record) -> None:
        trial, status = record["trial"], record["status"]
        known = self._known[trial]
        if self._ended.get(trial) == status:
            return
        run = self._run(trial)
        told = {key: record[key] for key in ("error", "reason", "retries") if record.get(key)}
        self._store.write_tags(run, {"status": status, **told})
        tasks = self._tasks.get(trial, {})
        confirmed = status == "completed" and known["role"] == "confirm"
        # When a ledger is replayed the records of the trial's tasks are gone already.
        if confirmed and any(tasks.values()):
            rank = known["params"].get("method.rank")
            self._store.attach_results(run, self._names[trial], rank, tasks)
            self._means.add(known, {task: finite(one["metrics"]) for task, one in tasks.items()})
            self._tasks[trial] = {task: {} for task in tasks}
        self._close(trial, status, record)
        if confirmed:
            self._average(known["cell"], record, least=self._seeds)

    def _winner(self, record: Record) -> None:
        cell = record["cell"]
        run = self._run(cell)
        self._winners[cell] = record
        self._number(cell, record["searched"])
        # Tags, since a study that is extended can find another winner and a param cannot change.
        best = {f"best/{key}": value for key, value in record["searched"].items()}
        self._store.write_tags(
            run, {**best, "best trial": self._names.get(record["trial"], "none")}
        )
        if record["value"] is not None:
            value = finite({f"best/{record['objective']}": record["value"]})
            self._store.write_metrics(run, value, 0, record)

    def _front(self, record: Record) -> None:
        cell, points = record["cell"], record["points"]
        run = self._run(cell)
        numbers = [self._number(cell, one["searched"]) for one in points]
        told = [
            {"point": number, **one["searched"], **one["values"]}
            for number, one in zip(numbers, points, strict=True)
        ]
        self._store.write_tags(run, {"front": told, "front points": len(points)})
        reached = self._reached.get(cell, {})
        tried = [one for trial, one in reached.items() if self._ended.get(trial) == "completed"]
        values = [finite(one["values"]) for one in points]
        front = dict(zip(numbers, values, strict=True))
        self._store.attach_front(run, self._names[cell], self._objective, tried, front)

    def _failed_cell(self, record: Record) -> None:
        """A cell whose search found no winner: it closes as completed, but says why it is empty."""
        self._store.write_tags(self._run(record["cell"]), {"error": record["error"]})

    def _estimate(self, record: Record) -> None:
        told = {key: one for key, one in record.items() if key not in ("kind", "time")}
        estimate = {f"estimate/{key}": one for key, one in told.items() if one is not None}
        self._store.write_tags(self._run("study"), estimate)

    def _finished(self, record: Record) -> None:
        status = record["status"]
        for item, known in self._known.items():
            if known["kind"] == "trial" and item in self._runs and item not in self._ended:
                self._close(item, "interrupted", record)
        for item, known in self._known.items():
            if known["kind"] == "cell" and status == "completed":
                self._average(item, record, least=1)
            if known["kind"] in ("cell", "study") and self._ended.get(item) != status:
                self._store.write_tags(self._run(item), {"status": status})
                self._close(item, status, record)
        wall = {"wall_seconds": round(self._sessions.total, 1)}
        self._store.write_tags(self._run("study"), wall)

    @property
    def _objective(self) -> Mapping[str, str]:
        found = self._spec.get("objective")
        return found if isinstance(found, Mapping) else {}

    @property
    def _seeds(self) -> int:
        """How many seeds the last session confirms each winner on."""
        planned = self._spec.get("seeds") or ()
        search = self._spec.get("search")
        protocol = search.get("protocol") if isinstance(search, Mapping) else None
        # The first one is the search's own then.
        return len(planned) - (protocol == "transfer")

    def _number(self, cell: str, setting: Mapping[str, Any]) -> int:
        """Counts the settings that a cell confirms, in the order in which they come."""
        numbers = self._settings.setdefault(cell, {})
        return numbers.setdefault(canonical(setting), len(numbers) + 1)

    def _announce(self, item: str, record: Record, name: str) -> bool:
        """Opens the run of an item, or opens it again; True when it was not known before."""
        new = item not in self._known
        if new:
            self._known[item], self._names[item] = record, name
        self._running(item)
        return new

    def _running(self, item: str) -> str:
        """Returns the run of an item, which is running again if it had ended, as its cell is."""
        run = self._run(item)
        cell = self._known[item]["cell"] if self._known[item]["kind"] == "trial" else item
        for one in dict.fromkeys((item, cell)):
            if self._ended.pop(one, None):
                self._store.set_status(self._run(one), "RUNNING", None)
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
            run = self._store.open_run(item, self._names[item], parent, tags_of(record), record)
            self._store.write_params(run, params_of(record))
            if record["kind"] == "study":
                self._store.attach_spec(run, record["spec"], "study.yaml")
            self._runs[item] = run
        return self._runs[item]

    def _close(self, item: str, status: str, record: Record) -> None:
        self._store.set_status(self._run(item), STATUS[status], record)
        self._ended[item] = status

    def _average(self, cell: str, record: Record, least: int) -> None:
        """Writes the means over the present winner's seeds to the cell's run, by task.

        Nothing happens below `least` seeds, or where these means were written already.
        """
        winner = self._winners.get(cell)
        setting = {} if winner is None else winner["searched"]
        trials = self._means.trials(cell, setting)
        done = (canonical(setting), trials)
        if not trials or trials < least or self._averaged.get(cell) == done:
            return
        run = self._run(cell)
        for task, metrics in self._means.of(cell, setting).items():
            self._store.write_metrics(run, metrics, task, record)
        self._store.write_tags(run, {"confirmed_seeds": trials})
        self._averaged[cell] = done
