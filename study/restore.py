"""What earlier sessions of a study have recorded, digested for going on with it."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from optuna.distributions import CategoricalDistribution

from study.checkpoints import broken
from study.folders import newest
from study.ledger import NAME, Record
from study.planning import Cell, Plan, PlannedTrial

Metrics = Mapping[str, float]
# The key of a trial's config that holds the folder of the checkpoint it goes on from.
RESUME_FROM = "resume_from"


@dataclass
class PastTrial:
    """A trial of an earlier session.

    `sampler` is what its search noted of it, `curve` holds its metrics by tasks seen, `end` the
    record of its end (None while it can go on), `checkpoint` that of its newest checkpoint.
    """

    planned: PlannedTrial
    sampler: Mapping[str, Any]
    curve: dict[int, Metrics] = field(default_factory=dict)
    end: Record | None = None
    checkpoint: Record | None = None

    @property
    def task(self) -> int:
        """Number of tasks that are recorded."""
        return max(self.curve, default=0)


class Past:
    """The records of earlier sessions of a study, in their order.

    Args:
        records: the ledger so far; of a task that is there twice the first record counts.
        plan: what is planned now; it has every cell of the records.
        output: the study's folder.

    Raises:
        ValueError: if a trial of the records would be another one now.
    """

    def __init__(self, records: Sequence[Record], plan: Plan, output: Path) -> None:
        self.records: list[Record] = []
        self.trials: dict[str, PastTrial] = {}
        self.winners: dict[str, Record] = {}
        self.fronts: dict[str, Record] = {}
        self.failed_cells: dict[str, Record] = {}
        self._cells = {cell.id: cell for cell in plan.cells}
        self._output = output.resolve()
        for record in records:
            self.add(record)

    @property
    def sessions(self) -> int:
        """Number of sessions that were begun; at least 1."""
        kinds = [one["kind"] for one in self.records]
        return max(1, kinds.count("study") + kinds.count("resumed"))

    @property
    def unfinished(self) -> list[PastTrial]:
        """Trials that have not ended, in the order they were launched."""
        return [one for one in self.trials.values() if one.end is None]

    @property
    def seen(self) -> set[tuple[str, int]]:
        """The recorded tasks, as (trial, task)."""
        return {(trial, task) for trial, one in self.trials.items() for task in one.curve}

    @property
    def checkpoints(self) -> dict[str, Record]:
        """The newest checkpoint of each trial whose checkpoint is still of use."""
        return {
            trial: one.checkpoint
            for trial, one in self.trials.items()
            if one.checkpoint and (one.end is None or one.planned.role == "confirm")
        }

    def add(self, record: Record) -> None:
        """Takes the next record. Kinds that are not known here are passed over."""
        self.records.append(record)
        kind = record["kind"]
        if kind == "trial":
            planned = self._planned(record)
            self.trials.setdefault(planned.id, PastTrial(planned, record.get("sampler") or {}))
        elif kind == "task":
            numbers = {
                key: math.nan if one is None else one for key, one in record["metrics"].items()
            }
            self.trials[record["trial"]].curve.setdefault(record["task"], numbers)
        elif kind == "checkpoint":
            self.trials[record["trial"]].checkpoint = record
        elif kind == "end":
            ended = record["status"] != "interrupted"
            self.trials[record["trial"]].end = record if ended else None
        elif kind == "winner":
            self.winners[record["cell"]] = record
            self.failed_cells.pop(record["cell"], None)
        elif kind == "front":
            self.fronts[record["cell"]] = record
        elif kind == "failed_cell":
            self.failed_cells[record["cell"]] = record

    def results(self) -> Iterator[tuple[PlannedTrial, int, Metrics]]:
        """Every result once, in the order in which they came: trial, tasks seen, metrics."""
        given = set()
        for record in self.records:
            if record["kind"] == "task" and (record["trial"], record["task"]) not in given:
                given.add((record["trial"], record["task"]))
                trial = self.trials[record["trial"]]
                yield trial.planned, record["task"], trial.curve[record["task"]]

    def holds(self, found: Record) -> bool:
        """Whether it is recorded already that the search of a cell has come to this."""
        cell = found["cell"]
        if found["kind"] == "failed_cell":
            return cell in self.failed_cells
        if found["kind"] == "front":
            return cell in self.fronts and _trials(self.fronts[cell]) == _trials(found)
        return cell in self.winners and self.winners[cell]["trial"] == found["trial"]

    def start_of(self, trial: str) -> tuple[Path | None, int, str | None]:
        """Where an unfinished trial goes on: checkpoint folder, tasks in it, what was wrong.

        Without a checkpoint that can be trusted it begins again: the folder is None then.
        """
        checkpoint = self.trials[trial].checkpoint
        if checkpoint is None:
            return None, 0, None
        wrong = broken(self._output, checkpoint)
        if wrong is not None:
            return None, 0, wrong
        return self._output / checkpoint["path"], checkpoint["task"], None

    def _planned(self, record: Record) -> PlannedTrial:
        """The trial of a record as the plan has it now."""
        cell = self._cells[record["cell"]]
        searched = _as_asked(cell, record["searched"])
        try:
            planned = cell.trial(record["role"], searched, record["seed"])
        except ValueError as error:
            raise ValueError(
                f"trial {record['trial']} of cell {cell.id} is not valid any more: {error}"
            ) from error
        if planned.id != record["trial"]:
            raise ValueError(
                f"trial {record['trial']} of cell {cell.id} would be another one now: "
                f"{_difference(record['params'], planned.params)}. Go on with the release of this "
                f"project that the study was begun with."
            )
        return planned


def _trials(front: Record) -> list[str]:
    return [one["trial"] for one in front["points"]]


def _as_asked(cell: Cell, searched: Mapping[str, Any]) -> dict[str, Any]:
    """Searched values as the sampler gave them: JSON has made lists of tuples."""
    values = dict(searched)
    for key, value in searched.items():
        axis = cell.space.get(key)
        if isinstance(axis, CategoricalDistribution):
            same = [one for one in axis.choices if json.dumps(one) == json.dumps(value)]
            values[key] = same[0] if same else value
    return values


def _difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """The first key of params that is not what it was."""
    plain = json.loads(json.dumps(now))
    for key in sorted({*before, *plain}):
        if before.get(key) != plain.get(key) or (key in before) != (key in plain):
            return f"{key} was {before.get(key)!r} and is {plain.get(key)!r}"
    return "it sees another number of tasks"


def find_study(wanted: str, roots: Sequence[Path], option: str = "--resume") -> Path:
    """The folder of a study: a folder, its ledger, or the start of a name below one of `roots`.

    Of several folders whose names begin like this, it is the one that was written to last.

    Raises:
        ValueError: if there is none.
    """
    path = Path(wanted)
    if path.name == NAME and path.is_file():
        return path.parent
    found = newest(wanted, roots, NAME)
    if found is None:
        places = " or ".join(str(root.resolve()) for root in roots)
        raise ValueError(
            f"{option} must name the folder of a study, its {NAME} or the start of the name of a "
            f"folder in {places}, but got {wanted!r}."
        )
    return found
