"""RunTree: turns the records of a study into a tree of tracked runs: study → cells → trials."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from study.cell_means import CellMeans
from study.ledger import Record
from study.open_runs import COLUMNS, OpenRuns
from study.run_words import (
    finite,
    model_name,
    objective_of,
    provenance_tags,
    seeds_confirmed,
    short,
)
from study.seed_means import canonical
from study.session_walls import SessionWalls
from study.tracked_store import Store
from study.trial_notes import TrialNotes


class RunTree:
    """Writes records, in the order of the ledger, into a store.

    It remembers what it was told before it asks the store for anything, and opens runs when they
    are needed. A record that the store could not take can be written again, as often as need be.
    Of a trial that the store holds whole already nothing is written again. Kinds that are not
    known here are passed over.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._notes = TrialNotes(store)
        self._runs = OpenRuns(store, self._notes)
        self._counts: dict[tuple[str, str], int] = {}
        self._tasks: dict[str, dict[int, Record]] = {}
        self._reached: dict[str, dict[str, dict[str, float]]] = {}
        self._means = CellMeans(store)
        self._settings: dict[str, dict[str, int]] = {}
        self._sessions = SessionWalls()
        # Numbers of the later sessions by when they began, and those the store was told of.
        self._resumptions: dict[float, int] = {}
        self._told: set[int] = set()
        self._shown: set[str] = set()
        self._kinds: dict[str, Callable[[Record], None]] = {
            "study": self._study,
            "resumed": self._resumed,
            "cell": self._cell,
            "trial": self._trial,
            "task": self._task,
            "checkpoint": self._checkpoint,
            "end": self._end,
            "winner": self._winner,
            "front": self._front,
            "failed_cell": self._failed_cell,
            "model": self._model,
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

    def spoil(self, record: Record) -> None:
        """Takes note that a record could not be written: its trial is not marked whole any more.

        Whoever writes the ledger again would pass over it otherwise.
        """
        if "trial" in record:
            self._runs.spoil(record["trial"])

    def _study(self, record: Record) -> None:
        self._runs.begin(record)
        started = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(record["time"]))
        self._runs.announce("study", record, f"{record['name']} · {started}")

    def _resumed(self, record: Record) -> None:
        """A later session: the study runs again, of another commit perhaps."""
        self._runs.begin(record)
        number = self._resumptions.setdefault(record["time"], len(self._resumptions) + 2)
        run = self._runs.running("study")
        if number not in self._told:
            self._store.write_tags(run, {**provenance_tags(record), "sessions": number})
            self._store.attach_yaml(run, f"study_{number}.yaml", record["spec"])
            self._told.add(number)

    def _cell(self, record: Record) -> None:
        name = " · ".join(short(*item) for item in record["key"].items())
        if self._runs.announce(record["cell"], record, name) or record["cell"] not in self._shown:
            self._shown.add(record["cell"])
            cells = self._runs.of_kind("cell").values()
            searched = dict.fromkeys(key for known in cells for key in known["search"])
            self._store.show_columns([*COLUMNS, *(f"params.`{key}`" for key in searched)])

    def _trial(self, record: Record) -> None:
        if record["trial"] in self._runs.known:
            self._runs.running(record["trial"])
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
        self._runs.announce(record["trial"], record, f"{label} · {self._runs.names[cell]}")

    def _task(self, record: Record) -> None:
        trial, task = record["trial"], record["task"]
        known = self._runs.known[trial]
        tasks = self._tasks.setdefault(trial, {})
        # After a restore a task can come again, with the same numbers but for its times.
        if task in tasks:
            return
        metrics = finite(record["metrics"])
        run = self._runs.running(trial)
        if not self._store.is_whole(trial):
            self._notes.place(trial, run, record)
            self._store.write_metrics(run, metrics, task, record)
        tasks[task] = record if known["role"] == "confirm" else {}
        objective = objective_of(self._runs.session["spec"])
        if known["role"] == "search" and len(objective) > 1:
            values = {key: metrics[key] for key in objective if key in metrics}
            self._reached.setdefault(known["cell"], {})[trial] = values

    def _end(self, record: Record) -> None:
        trial, status = record["trial"], record["status"]
        known = self._runs.known[trial]
        if self._runs.ended.get(trial) == status:
            return
        self._runs.ending[trial] = record
        run, whole = self._runs.run(trial), self._store.is_whole(trial)
        if not whole:
            told = {key: record[key] for key in ("error", "reason", "retries") if record.get(key)}
            self._store.write_tags(run, {"status": status, **told})
        tasks = self._tasks.get(trial, {})
        confirmed = status == "completed" and known["role"] == "confirm"
        # When a ledger is replayed the records of the trial's tasks are gone already.
        if confirmed and any(tasks.values()):
            if not whole:
                self._notes.attach(known, run, self._runs.names[trial], tasks)
            self._means.add(known, {task: finite(one["metrics"]) for task, one in tasks.items()})
            self._tasks[trial] = {task: {} for task in tasks}
        if confirmed:
            least = seeds_confirmed(self._runs.session["spec"])
            self._means.write(known["cell"], self._runs.run(known["cell"]), record, least)
        if not whole:
            self._runs.close(trial, status, record, len(tasks))
        self._runs.ended[trial] = status
        del self._runs.ending[trial]

    def _checkpoint(self, record: Record) -> None:
        trial = record["trial"]
        self._notes.checkpoint(record)
        # The one of the last task can be safe after the trial's end.
        known = self._runs.known[trial]
        # After that the run can be marked whole already, so this is written in any case.
        if trial in self._runs.ended and known["role"] == "confirm":
            self._notes.tell_checkpoint(trial, self._runs.run(trial))

    def _model(self, record: Record) -> None:
        """Merged weights of a cell's winner."""
        study, cell, trial = "study", record["cell"], self._runs.known[record["trial"]]
        accuracy = self._means.last(trial).get("test/accuracy")
        tags = {
            "study": self._runs.names[study],
            "cell": cell,
            "seed": trial["seed"],
            "sha256": record["sha256"],
            "bytes": record["bytes"],
            **({} if accuracy is None else {"mean test/accuracy": round(accuracy, 6)}),
        }
        name = model_name(self._runs.known[study]["name"], self._runs.names[cell])
        self._store.register_model(self._runs.run(record["trial"]), record["folder"], name, tags)

    def _winner(self, record: Record) -> None:
        cell = record["cell"]
        run = self._runs.run(cell)
        self._means.crown(record)
        self._number(cell, record["searched"])
        # Tags, since a study that is extended can find another winner and a param cannot change.
        best = {f"best/{key}": value for key, value in record["searched"].items()}
        self._store.write_tags(
            run, {**best, "best trial": self._runs.names.get(record["trial"], "none")}
        )
        if record["value"] is not None:
            value = finite({f"best/{record['objective']}": record["value"]})
            self._store.write_metrics(run, value, 0, record)

    def _front(self, record: Record) -> None:
        cell, points = record["cell"], record["points"]
        run = self._runs.run(cell)
        numbers = [self._number(cell, one["searched"]) for one in points]
        told = [
            {"point": number, **one["searched"], **one["values"]}
            for number, one in zip(numbers, points, strict=True)
        ]
        self._store.write_tags(run, {"front": told, "front points": len(points)})
        reached = self._reached.get(cell, {})
        tried = [
            one for trial, one in reached.items() if self._runs.ended.get(trial) == "completed"
        ]
        values = [finite(one["values"]) for one in points]
        front = dict(zip(numbers, values, strict=True))
        self._store.attach_front(
            run, self._runs.names[cell], objective_of(self._runs.session["spec"]), tried, front
        )

    def _failed_cell(self, record: Record) -> None:
        """A cell whose search found no winner: it closes as completed, but says why it is empty."""
        self._store.write_tags(self._runs.run(record["cell"]), {"error": record["error"]})

    def _estimate(self, record: Record) -> None:
        told = {key: one for key, one in record.items() if key not in ("kind", "time")}
        estimate = {f"estimate/{key}": one for key, one in told.items() if one is not None}
        self._store.write_tags(self._runs.run("study"), estimate)

    def _finished(self, record: Record) -> None:
        status = record["status"]
        for item in self._runs.left_open():
            end = self._runs.ending.get(item, {**record, "status": "interrupted"})
            self._runs.close(item, end["status"], end, len(self._tasks.get(item, ())))
        for item in self._runs.of_kind("cell", "study"):
            if item != "study" and status == "completed":
                self._means.write(item, self._runs.run(item), record, least=1)
            if self._runs.ended.get(item) != status:
                self._store.write_tags(self._runs.run(item), {"status": status})
                self._runs.close(item, status, record)
        wall = {"wall_seconds": round(self._sessions.total, 1)}
        self._store.write_tags(self._runs.run("study"), wall)

    def _number(self, cell: str, setting: Mapping[str, Any]) -> int:
        """Counts the settings that a cell confirms, in the order in which they come."""
        numbers = self._settings.setdefault(cell, {})
        return numbers.setdefault(canonical(setting), len(numbers) + 1)
