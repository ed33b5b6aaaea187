"""RunTree: turns the records of a study into a tree of tracked runs: study → cells → trials."""

import json
import re
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from study.ledger import History, Record, TrialHistory, labels
from study.report import figures, yaml_text
from study.tracking.runs import (
    CHARTS,
    COLUMNS,
    STUDY,
    WHOLE,
    Item,
    Point,
    Runs,
    Store,
    finite,
    provenance_tags,
    spec_of,
)

# What MLflow takes in no key, and how long one is that others may be added to.
NO_KEY = re.compile(r"[^\w/.-]+")
LONGEST_KEY = 200
# Files of a report that the run of a study holds.
REPORT = ("report.html", "answer.svg")


class RunTree:
    """Writes records, in the order of the ledger, into a store.

    Runs are opened when they are needed. A record that the store could not take can be written
    again, as often as need be. Metrics of tasks are held, until `write_held` writes those of a
    trial together. Of a trial that the store holds whole already nothing is written again. Kinds
    that are not known here are passed over.

    Args:
        store: takes the runs.
        history: of the same ledger; it knows each record, and none after it, before it is written
            here.
    """

    def __init__(self, store: Store, history: History) -> None:
        self._store = store
        self._history = history
        self._runs = Runs(store, history)
        self._means = CellMeans(store, history)
        # Trials of which the store does not have every record.
        self._incomplete: set[str] = set()
        # Records of tasks whose metrics are not written yet, by trial.
        self._held: dict[str, list[Record]] = {}
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
            "look": self._look,
            "model": self._model,
            "warning": self._warning,
            "estimate": self._estimate,
            "finished": self._finished,
        }

    def write(self, record: Record) -> None:
        """Writes one record.

        Raises:
            KeyError: if it is about a cell or a trial that was never announced.
        """
        writes = self._kinds.get(record["kind"])
        if writes is not None:
            writes(record)

    @property
    def held(self) -> list[str]:
        """Trials of which metrics are held."""
        return list(self._held)

    @property
    def held_tasks(self) -> int:
        """The number of tasks whose metrics are held."""
        return sum(map(len, self._held.values()))

    def write_held(self, trial: str) -> None:
        """Writes the metrics that are held of a trial."""
        points = [Point(finite(task["metrics"]), task["task"], task) for task in self._held[trial]]
        self._store.write_metrics(self._runs.running(trial).run, points)
        del self._held[trial]

    def drop_held(self, trial: str) -> list[Record]:
        """Gives up the metrics that are held of a trial; the records that they are in."""
        return self._held.pop(trial)

    def attach_report(self, report: Path) -> None:
        """Attaches the page and the picture of the answer to the study's run, where they are."""
        run = self._runs.opened(STUDY).run
        for name in REPORT:
            file = report / name
            if file.is_file():
                self._store.attach(run, name, file.read_text(encoding="utf-8"))

    def give_up(self, record: Record) -> None:
        """Takes note that a record is not written: a replay must not pass its trial over."""
        if isinstance(trial := record.get("trial"), str):
            self._incomplete.add(trial)

    def _study(self, record: Record) -> None:
        self._runs.splits |= record["splits"]
        started = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(record["time"]))
        self._runs.announce(STUDY, record, f"{record['name']} · {started}")

    def _resumed(self, record: Record) -> None:
        """A later session: the study runs again, of another commit perhaps."""
        self._runs.splits |= record["splits"]
        run, number = self._runs.running(STUDY).run, len(self._history.sessions)
        self._store.write_tags(run, {**provenance_tags(record), "sessions": number})
        self._store.attach(run, f"study_{number}.yaml", yaml_text(record["spec"]))

    def _cell(self, record: Record) -> None:
        name = " · ".join(_short(*pair) for pair in record["key"].items())
        self._runs.announce(record["cell"], record, name)
        searched = dict.fromkeys(
            key for cell in self._history.cells.values() for key in cell.search
        )
        self._store.show([*COLUMNS, *(f"params.`{key}`" for key in searched)], CHARTS)

    def _trial(self, record: Record) -> None:
        cell, role = record["cell"], record["role"]
        if role == "confirm":
            number = self._history.number_of(cell, record["searched"])
            several = self._history.confirmed_settings(cell) > 1
            point = f", point {number}" if several else ""
            label = f"seed {record['seed']} (confirm{point})"
        else:
            label = f"search {len(self._history.of_cell(cell, role)):02d}"
        # What tells it from its neighbours comes first: lists cut names short.
        name = f"{label} · {self._runs.items[cell].name}"
        self._runs.announce(record["trial"], record, name)

    def _task(self, record: Record) -> None:
        item = self._runs.running(record["trial"])
        if item.whole:
            return
        # On another node perhaps, once it was restarted.
        place = {key: record[key] for key in ("host", "device") if record[key]}
        if place != item.place:
            self._store.write_tags(item.run, place)
            item.place = place
        if not self._is_summed_up(self._history.trials[record["trial"]]):
            self._held.setdefault(record["trial"], []).append(record)

    def _end(self, record: Record) -> None:
        trial, status = self._history.trials[record["trial"]], record["status"]
        item = self._runs.opened(trial.trial)
        if status == "completed" and trial.role == "confirm":
            if not item.whole:
                self._attach_results(trial, item)
            self._means.add(trial)
            cell = self._history.cells[trial.cell]
            self._means.write(cell.cell, self._runs.opened(cell.cell).run, record, len(cell.seeds))
        elif status != "interrupted":
            if self._is_summed_up(trial) and not item.whole and trial.tasks:
                last = finite(trial.curve[trial.task])
                self._store.write_metrics(item.run, [Point(last, trial.task, record)])
            self._history.forget_metrics(trial.trial, self._objective)
        if item.whole:
            item.status = status
            return
        tags = {key: record[key] for key in ("error", "reason", "retries") if record[key]}
        if status != "interrupted" and trial.trial not in self._incomplete:
            tags[WHOLE] = len(trial.tasks)
        self._runs.close(trial.trial, status, record)
        # Last of all: where it says WHOLE, all that comes before is there.
        self._store.write_tags(item.run, {"status": status, **tags})

    def _attach_results(self, trial: TrialHistory, item: Item) -> None:
        """What is kept of a confirmation: settings, accuracy matrix, pictures, checkpoint."""
        attach = partial(self._store.attach, item.run)
        attach("config.yaml", yaml_text(trial.params))
        rows = [task.accuracy_row for _, task in sorted(trial.tasks.items())]
        attach("accuracy_matrix.csv", figures.accuracy_csv(rows))
        attach("accuracy_matrix.png", partial(figures.accuracy_picture, rows, item.name))
        if layers := figures.free_dimensions(trial.curve):
            rank = trial.params.get("method.rank")
            draw = partial(figures.free_dimensions_picture, layers, rank, item.name)
            attach("free_dimensions.png", draw)
        self._write_checkpoint(trial, item)

    def _checkpoint(self, record: Record) -> None:
        trial = self._history.trials[record["trial"]]
        # The one of the last task can be safe after the trial's end, and its run whole already.
        if trial.ended and trial.role == "confirm":
            self._write_checkpoint(trial, self._runs.opened(trial.trial))

    def _write_checkpoint(self, trial: TrialHistory, item: Item) -> None:
        """The newest checkpoint of a confirmation, which stays: folder, and size on disk.

        `memory/checkpoint_bytes` among the metrics is that of the tensors in it.
        """
        if trial.checkpoint is not None:
            files = trial.checkpoint.files
            size = {"checkpoint bytes": sum(files.values())} if files else {}
            self._store.write_tags(item.run, {"checkpoint": trial.checkpoint.path, **size})

    def _model(self, record: Record) -> None:
        """Merged weights of a cell's winner."""
        cell, trial = record["cell"], self._history.trials[record["trial"]]
        accuracy = self._means.last(trial, "test/accuracy")
        study = self._runs.items[STUDY]
        tags = {
            "study": study.name,
            "cell": cell,
            "seed": trial.seed,
            "sha256": record["sha256"],
            "bytes": record["bytes"],
            **({} if accuracy is None else {"mean test/accuracy": round(accuracy, 6)}),
        }
        name = model_name(study.record["name"], self._runs.items[cell].name)
        run = self._runs.opened(trial.trial).run
        self._store.register_model(run, record["folder"], name, tags)

    def _winner(self, record: Record) -> None:
        run = self._runs.opened(record["cell"]).run
        # Tags, since a study that is extended can find another winner and a param cannot change.
        best = {f"best/{key}": value for key, value in record["searched"].items()}
        trial = self._runs.items.get(record["trial"])
        best["best trial"] = "none" if trial is None else trial.name
        self._store.write_tags(run, best)
        if record["value"] is not None:
            value = finite({f"best/{record['objective']}": record["value"]})
            self._store.write_metrics(run, [Point(value, 0, record)])

    def _front(self, record: Record) -> None:
        cell = self._runs.opened(record["cell"])
        points = self._history.fronts[record["cell"]]
        front = [{"point": point.number, **point.searched, **point.values} for point in points]
        self._store.write_tags(cell.run, {"front": front, "front points": len(points)})
        tried = [
            {key: value for key in self._objective if (value := trial.last(key)) is not None}
            for trial in self._history.of_cell(record["cell"], "search")
            if trial.status == "completed"
        ]
        values = {point.number: finite(point.values) for point in points}
        draw = partial(figures.front_picture, self._objective, tried, values, cell.name)
        self._store.attach(cell.run, "front.png", draw)

    def _failed_cell(self, record: Record) -> None:
        """A cell whose search found no winner: it closes as completed, but says why it is empty."""
        run = self._runs.opened(record["cell"]).run
        self._store.write_tags(run, {"error": record["error"]})

    def _look(self, record: Record) -> None:
        """The newest look at a contrast, among the study's tags; its numbers by pairs of seeds."""
        run = self._runs.opened(STUDY).run
        key = f"contrast/{NO_KEY.sub(' ', record['contrast'])}"[:LONGEST_KEY]
        pairs, reason = len(record["seeds"]), record["reason"]
        verdict = f"{record['verdict']}{f' ({reason})' if reason else ''}, {pairs} pairs of seeds"
        self._store.write_tags(run, {key: verdict})
        numbers = finite({f"{key}/{name}": record[name] for name in ("mean", "low", "high")})
        self._store.write_metrics(run, [Point(numbers, pairs, record)])

    def _warning(self, record: Record) -> None:
        """All warnings so far: a later tag takes the place of an earlier one."""
        told = "\n".join(self._history.warnings)
        self._store.write_tags(self._runs.opened(STUDY).run, {"warnings": told})

    def _estimate(self, record: Record) -> None:
        estimate = {
            f"estimate/{key}": value
            for key, value in record.items()
            if key not in ("kind", "time") and value is not None
        }
        self._store.write_tags(self._runs.opened(STUDY).run, estimate)

    def _finished(self, record: Record) -> None:
        status, trials = record["status"], self._history.trials
        for key, item in self._runs.items.items():
            if key in trials and item.run and not item.status:
                left = trials[key]
                self._runs.close(key, left.status if left.ended else "interrupted", record)
        for key in (*self._history.cells, STUDY):
            item = self._runs.opened(key)
            if key != STUDY and status == "completed":
                self._means.write(key, item.run, record, least=1)
            if item.status != status:
                self._store.write_tags(item.run, {"status": status})
                self._runs.close(key, status, record)
        wall = {"wall_seconds": round(self._history.walls.total, 1)}
        self._store.write_tags(self._runs.opened(STUDY).run, wall)

    def _is_summed_up(self, trial: TrialHistory) -> bool:
        """Whether only the last task of a trial is written."""
        tracking = spec_of(self._history).get("tracking")
        return trial.role == "search" and (
            isinstance(tracking, Mapping) and tracking.get("detail") == "summary"
        )

    @property
    def _objective(self) -> Mapping[str, str]:
        """Metrics to max or min."""
        return spec_of(self._history).get("objective") or {}


class CellMeans:
    """Writes the means of each cell's present winner, and knows which were written already."""

    def __init__(self, store: Store, history: History) -> None:
        self._store = store
        self._history = history
        # Completed confirmations by name, by cell and the number of their setting.
        self._confirmed: dict[tuple[str, int], dict[str, TrialHistory]] = {}
        self._written: dict[str, tuple[int, int]] = {}

    def add(self, trial: TrialHistory) -> None:
        """Adds a completed confirmation."""
        number = self._history.number_of(trial.cell, trial.searched)
        self._confirmed.setdefault((trial.cell, number), {})[trial.trial] = trial

    def last(self, trial: TrialHistory, metric: str) -> float | None:
        """A metric after the last task, over the trials that had the setting of `trial`."""
        number = self._history.number_of(trial.cell, trial.searched)
        tasks = _means(self._confirmed.get((trial.cell, number), {}).values())
        return tasks[max(tasks)].get(metric) if tasks else None

    def write(self, cell: str, run: str, record: Record, least: int) -> None:
        """Writes the means by task to the cell's run.

        Nothing happens below `least` seeds, or where these means were written already.
        """
        winner = self._history.winners.get(cell)
        number = 0 if winner is None else self._history.number_of(cell, winner.searched)
        trials = self._confirmed.get((cell, number), {})
        means = (number, len(trials))
        if len(trials) < max(least, 1) or self._written.get(cell) == means:
            return
        curve = _means(trials.values())
        points = [Point(metrics, task, record) for task, metrics in curve.items()]
        self._store.write_metrics(run, points)
        self._store.write_tags(run, {"confirmed_seeds": len(trials)})
        self._written[cell] = means


def _means(trials: Iterable[TrialHistory]) -> dict[int, dict[str, float]]:
    """By task, the means of the metrics that all trials have."""
    curves = [trial.curve for trial in trials]
    means = {}
    for task in sorted(set[int]().union(*curves)):
        metrics = [curve.get(task, {}) for curve in curves]
        shared = set(metrics[0]).intersection(*metrics[1:])
        if shared:
            means[task] = {
                key: sum(values[key] for values in metrics) / len(metrics) for key in sorted(shared)
            }
    return means


def model_name(study: str, cell: str) -> str:
    """The name under which a cell's winner is registered, of the names of study and cell.

    MLflow refuses '/' and ':' there, and commands are easier to type without spaces.
    """
    return ".".join(re.sub(r"[^A-Za-z0-9_=-]+", "-", name) for name in (study, *cell.split(" · ")))


def _short(key: str, value: Any) -> str:
    """A cell's key and value as a person would say them."""
    if key == labels.TASKS:
        return f"{value} tasks"
    if key == labels.TUNED_ON:
        return f"tuned on {value}"
    return value if isinstance(value, str) else f"{key.rpartition('.')[2]} {json.dumps(value)}"
