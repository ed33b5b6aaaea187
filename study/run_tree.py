"""RunTree: turns the records of a study into a tree of tracked runs: study → cells → trials."""

import hashlib
import time
from collections.abc import Callable, Mapping
from typing import Any

from study.ledger import Record
from study.run_words import (
    finite,
    model_name,
    objective_of,
    params_of,
    provenance_tags,
    seeds_confirmed,
    short,
    tags_of,
    trial_tags,
)
from study.seed_means import SeedMeans, canonical
from study.session_walls import SessionWalls
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


class RunTree:
    """Writes records, in the order of the ledger, into a store.

    It remembers what it was told before it asks the store for anything, and opens runs when they
    are needed. A record that the store could not take can be written again, as often as need be.
    Of a trial that the store holds whole already nothing is written again. Kinds that are not
    known here are passed over.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[str, Record] = {}
        self._names: dict[str, str] = {}
        self._counts: dict[tuple[str, str], int] = {}
        self._runs: dict[str, str] = {}
        self._ended: dict[str, str] = {}
        # How trials ended whose end was not written yet.
        self._ending: dict[str, Record] = {}
        self._spoiled: set[str] = set()
        self._tasks: dict[str, dict[int, Record]] = {}
        self._reached: dict[str, dict[str, dict[str, float]]] = {}
        self._means = SeedMeans()
        self._winners: dict[str, Record] = {}
        self._settings: dict[str, dict[str, int]] = {}
        self._averaged: dict[str, tuple[str, int]] = {}
        self._session: Record = {}
        self._notes = TrialNotes(store)
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
            self._spoiled.add(record["trial"])

    def _study(self, record: Record) -> None:
        self._begin(record)
        started = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(record["time"]))
        self._announce("study", record, f"{record['name']} · {started}")

    def _resumed(self, record: Record) -> None:
        """A later session: the study runs again, of another commit perhaps."""
        self._begin(record)
        number = self._resumptions.setdefault(record["time"], len(self._resumptions) + 2)
        run = self._running("study")
        if number not in self._told:
            self._store.write_tags(run, {**provenance_tags(record), "sessions": number})
            self._store.attach_yaml(run, f"study_{number}.yaml", record["spec"])
            self._told.add(number)

    def _begin(self, record: Record) -> None:
        self._session = record
        self._notes.begin(record)

    def _cell(self, record: Record) -> None:
        name = " · ".join(short(*item) for item in record["key"].items())
        if self._announce(record["cell"], record, name) or record["cell"] not in self._shown:
            self._shown.add(record["cell"])
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
        run = self._running(trial)
        if not self._store.is_whole(trial):
            self._notes.place(trial, run, record)
            self._store.write_metrics(run, metrics, task, record)
        tasks[task] = record if known["role"] == "confirm" else {}
        objective = objective_of(self._session["spec"])
        if known["role"] == "search" and len(objective) > 1:
            values = {key: metrics[key] for key in objective if key in metrics}
            self._reached.setdefault(known["cell"], {})[trial] = values

    def _end(self, record: Record) -> None:
        trial, status = record["trial"], record["status"]
        known = self._known[trial]
        if self._ended.get(trial) == status:
            return
        self._ending[trial] = record
        run, whole = self._run(trial), self._store.is_whole(trial)
        if not whole:
            told = {key: record[key] for key in ("error", "reason", "retries") if record.get(key)}
            self._store.write_tags(run, {"status": status, **told})
        tasks = self._tasks.get(trial, {})
        confirmed = status == "completed" and known["role"] == "confirm"
        # When a ledger is replayed the records of the trial's tasks are gone already.
        if confirmed and any(tasks.values()):
            if not whole:
                self._notes.attach(known, run, self._names[trial], tasks)
            self._means.add(known, {task: finite(one["metrics"]) for task, one in tasks.items()})
            self._tasks[trial] = {task: {} for task in tasks}
        if confirmed:
            self._average(known["cell"], record, least=seeds_confirmed(self._session["spec"]))
        if not whole:
            self._close(trial, status, record)
        self._ended[trial] = status
        del self._ending[trial]

    def _checkpoint(self, record: Record) -> None:
        trial = record["trial"]
        self._notes.checkpoint(record)
        # The one of the last task can be safe after the trial's end.
        known = self._known[trial]
        # After that the run can be marked whole already, so this is written in any case.
        if trial in self._ended and known["role"] == "confirm":
            self._notes.tell_checkpoint(trial, self._run(trial))

    def _model(self, record: Record) -> None:
        """Merged weights of a cell's winner."""
        study, cell, trial = "study", record["cell"], self._known[record["trial"]]
        last = self._means.of(cell, trial["searched"])
        accuracy = last[max(last)].get("test/accuracy") if last else None
        tags = {
            "study": self._names[study],
            "cell": cell,
            "seed": trial["seed"],
            "sha256": record["sha256"],
            "bytes": record["bytes"],
            **({} if accuracy is None else {"mean test/accuracy": round(accuracy, 6)}),
        }
        name = model_name(self._known[study]["name"], self._names[cell])
        self._store.register_model(self._run(record["trial"]), record["folder"], name, tags)

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
        self._store.attach_front(
            run, self._names[cell], objective_of(self._session["spec"]), tried, front
        )

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
                end = self._ending.get(item, {**record, "status": "interrupted"})
                self._close(item, end["status"], end)
        for item, known in self._known.items():
            if known["kind"] == "cell" and status == "completed":
                self._average(item, record, least=1)
            if known["kind"] in ("cell", "study") and self._ended.get(item) != status:
                self._store.write_tags(self._run(item), {"status": status})
                self._close(item, status, record)
        wall = {"wall_seconds": round(self._sessions.total, 1)}
        self._store.write_tags(self._run("study"), wall)

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
            self._ending.pop(one, None)
            if self._ended.pop(one, None) and not self._store.is_whole(one):
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
            run = self._store.open_run(item, self._names[item], parent, self._tags(item), record)
            if not self._store.is_whole(item):
                self._store.write_params(run, params_of(record))
                self._notes.data(run, record)
            if record["kind"] == "study":
                self._store.attach_yaml(run, "study.yaml", record["spec"])
            self._runs[item] = run
        return self._runs[item]

    def _tags(self, item: str) -> dict[str, Any]:
        record = self._known[item]
        tags = tags_of(record)
        if record["kind"] == "trial":
            tags |= trial_tags(record, self._session, self._known[record["cell"]])
        return tags

    def _close(self, item: str, status: str, record: Record) -> None:
        run = self._run(item)
        self._store.set_status(run, STATUS[status], record)
        ended = self._known[item]["kind"] == "trial" and status != "interrupted"
        if ended and item not in self._spoiled:
            self._store.mark_whole(run, len(self._tasks.get(item, ())))
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
