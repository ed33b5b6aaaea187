"""What a person sees while a study runs: a live table, or a line a trial without a terminal."""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from study.labels import cell_label, varying_keys
from study.ledger import Record
from study.planning import Cell, Plan

HEADINGS = ("cell", "status", "tasks seen", "best {}", "test/accuracy")
# Of the report's summary, what fits into a terminal: by the words before the unit.
SUMMARY = ("cell", "final accuracy", "AAA", "forgetting", "best setting")


@dataclass
class _Trial:
    """A trial as far as its records tell; it sees `tasks` tasks."""

    cell: str
    role: str
    tasks: int
    searched: Mapping[str, Any]
    task: int = 0
    value: float | None = None
    status: str = "running"


@dataclass
class _Cell:
    """A row of the table: `settings` are those its search chose to be confirmed, best first."""

    plan: Cell
    trials: list[_Trial] = field(default_factory=list)
    settings: list[Mapping[str, Any]] = field(default_factory=list)
    failed: bool = False

    def searches(self) -> list[_Trial]:
        return [one for one in self.trials if one.role == "search"]

    def confirmations(self, settings: Sequence[Mapping[str, Any]]) -> list[_Trial]:
        """Those of some settings; of a winner that is none any more, there may be others."""
        found = (one for one in self.trials if one.role == "confirm")
        return [one for one in found if one.searched in settings]


class Display:
    """Shows the records of a study as they come, as a context.

    Args:
        plan: what is going to run.
        console: where to; without a terminal a line is printed for each trial that ended.
    """

    def __init__(self, plan: Plan, console: Console) -> None:
        self._plan = plan
        self._console = console
        self._cells = {cell.id: _Cell(cell) for cell in plan.cells}
        varying = varying_keys([cell.key for cell in plan.cells])
        self._labels = {cell.id: cell_label(cell.key, varying) for cell in plan.cells}
        self._trials: dict[str, _Trial] = {}
        self._start = time.monotonic()
        self._recalling = False
        self._live = Live(
            console=console,
            get_renderable=self._table,
            refresh_per_second=2,
            vertical_overflow="visible",
        )

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start(refresh=True)
        return self

    def __exit__(self, *error: object) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def recall(self, records: Iterable[Record]) -> None:
        """Takes the records of earlier sessions: they count, but no line is printed for them."""
        self._recalling = True
        for record in records:
            self.write(record)
        self._recalling = False

    def write(self, record: Record) -> None:
        """Takes the next record of the ledger; kinds that are not shown are passed over."""
        kind = record["kind"]
        # Cells of an earlier session that are not planned any more have no row.
        cell = self._cells.get(record.get("cell", ""))
        trial = self._trials.get(record.get("trial", ""))
        if kind == "resumed":
            for one in self._trials.values():
                if one.status == "running":
                    one.status = "interrupted"
        elif kind == "trial" and cell is not None:
            self._take_trial(cell, record)
        elif kind == "continued" and trial is not None:
            trial.status = "running"
        elif kind == "note" and not self._recalling:
            self._console.print(
                f"{record['cell']}: {record['text']}", highlight=False, markup=False
            )
        elif kind == "task" and trial is not None:
            trial.status = "running"
            trial.task = record["task"]
            trial.value = record["metrics"].get(self._metric(trial))
        elif kind == "end" and trial is not None:
            self._take_end(trial, record)
        elif kind == "winner" and cell is not None:
            cell.settings, cell.failed = [record["searched"]], False
        elif kind == "front" and cell is not None:
            cell.settings = [one["searched"] for one in record["points"]]
        elif kind == "failed_cell" and cell is not None:
            cell.failed = True
            if not self._recalling:
                self._console.print(f"{record['cell']}: {record['error']}", highlight=False)

    def _metric(self, trial: _Trial) -> str:
        return self._plan.spec.metric if trial.role == "search" else "test/accuracy"

    def _take_trial(self, cell: _Cell, record: Record) -> None:
        known = self._trials.get(record["trial"])
        if known is not None:
            known.status = "running"
            return
        tasks = record.get("tasks", cell.plan.tasks)
        trial = _Trial(record["cell"], record["role"], tasks, record["searched"])
        self._trials[record["trial"]] = trial
        cell.trials.append(trial)

    def _take_end(self, trial: _Trial, record: Record) -> None:
        trial.status = record["status"]
        error = f": {record['error']}" if record["error"] else ""
        if not self._recalling and (error or not self._console.is_terminal):
            reached = "" if trial.value is None else f" {self._metric(trial)} {trial.value:.3f}"
            self._console.print(
                f"{_clock(time.monotonic() - self._start)} {self._labels[trial.cell]}: "
                f"{trial.role} {trial.status} at task {trial.task}/{trial.tasks}{reached}{error}",
                highlight=False,
                markup=False,
                soft_wrap=True,
            )

    def _table(self) -> Table:
        spec = self._plan.spec
        now = "" if self._trials else "  starting Ray"
        title = f"{spec.name}  {_clock(time.monotonic() - self._start)}{now}"
        chance = self._plan.chance
        caption = None if chance is None else f"guessing would reach {chance:.3f}"
        table = Table(title=title, caption=caption, title_justify="left", caption_justify="left")
        for heading in HEADINGS:
            table.add_column(heading.format(spec.metric), no_wrap=heading != "cell")
        for cell_id, cell in self._cells.items():
            shown = cell.confirmations(cell.settings[:1])
            table.add_row(
                self._labels[cell_id],
                self._status(cell),
                _tasks_seen(cell),
                _number(self._best(cell)),
                _mean([one for one in shown if one.value is not None]),
            )
        return table

    def _status(self, cell: _Cell) -> Text:
        if cell.failed:
            return Text("failed", style="red")
        if cell.settings:
            trials = cell.confirmations(cell.settings)
            total = len(cell.plan.seeds) * len(cell.settings)
        else:
            trials, total = cell.searches(), self._plan.spec.trials
        ended = sum(one.status not in ("running", "interrupted") for one in trials)
        if cell.settings and ended == total:
            good = sum(one.status == "completed" for one in trials)
            if good == total:
                return Text("done", style="green")
            return Text(f"done, {total - good} of {total} failed", style="red")
        if not trials:
            return Text("waiting", style="dim")
        return Text(f"{'confirming' if cell.settings else 'searching'} {ended}/{total}")

    def _best(self, cell: _Cell) -> float | None:
        """The best value of the first objective, among the trials that saw all they were to."""
        sign = self._plan.spec.sign
        found = [one for one in cell.searches() if one.task == cell.plan.search_tasks]
        values = [one.value for one in found if one.value is not None]
        return max(values, key=lambda value: sign * value, default=None)


def summary_table(rows: Sequence[Mapping[str, str]], title: str) -> Table:
    """The rows of the report's summary as a table for the terminal."""
    table = Table(title=title, title_justify="left")
    headings = [one for one in (rows[0] if rows else {}) if one.partition(",")[0] in SUMMARY]
    for heading in headings:
        wraps = heading in ("cell", "best setting")
        # Folded where a terminal is narrow: a setting that is cut short is of no use.
        justify: Literal["left", "right"] = "left" if wraps else "right"
        table.add_column(heading, justify=justify, no_wrap=not wraps, overflow="fold")
    for row in rows:
        table.add_row(*(Text(row[heading]) for heading in headings))
    return table


def _tasks_seen(cell: _Cell) -> str:
    running = [f"{one.task}" for one in cell.trials if one.status == "running"]
    searching = any(one.role == "search" for one in cell.trials if one.status == "running")
    tasks = cell.plan.search_tasks if searching else cell.plan.tasks
    return f"{', '.join(running)} of {tasks}" if running else f"– of {tasks}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _mean(trials: Sequence[_Trial]) -> str:
    """Mean test accuracy of the confirmation trials so far, each at its own task."""
    values = [one.value for one in trials if one.value is not None]
    if not values:
        return ""
    tasks = sorted({one.task for one in trials})
    at = f"{tasks[0]}" if len(tasks) == 1 else f"{tasks[0]}–{tasks[-1]}"
    return f"{sum(values) / len(values):.3f} at task {at}"


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60:d}:{int(seconds) % 60:02d}"
