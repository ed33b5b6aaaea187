"""What a person sees while a study runs: a live table, or a line a trial without a terminal."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Self

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from study.labels import cell_label
from study.ledger import Record
from study.planning import Plan

HEADINGS = ("cell", "status", "tasks seen", "best {}", "test/accuracy")
# Of the report's summary, what fits into a terminal: by the words before the unit.
SUMMARY = ("cell", "final accuracy", "AAA", "forgetting", "best setting")


@dataclass
class _Trial:
    """A trial as far as its records tell."""

    cell: str
    role: str
    task: int = 0
    value: float | None = None
    status: str = "running"


@dataclass
class _Cell:
    """A row of the table."""

    tasks: int
    trials: list[_Trial] = field(default_factory=list)
    winner: bool = False
    failed: bool = False

    def of(self, role: str) -> list[_Trial]:
        return [one for one in self.trials if one.role == role]


class Display:
    """Shows the records of a study as they come, as a context.

    Args:
        plan: what is going to run.
        console: where to; without a terminal a line is printed for each trial that ended.
    """

    def __init__(self, plan: Plan, console: Console) -> None:
        self._plan = plan
        self._console = console
        self._cells = {cell.id: _Cell(cell.tasks) for cell in plan.cells}
        varying = [key for key, axis in plan.spec.grid.items() if len(axis) > 1]
        self._labels = {cell.id: cell_label(cell.key, varying) for cell in plan.cells}
        self._trials: dict[str, _Trial] = {}
        self._start = time.monotonic()
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

    def write(self, record: Record) -> None:
        """Takes the next record of the ledger."""
        kind = record["kind"]
        if kind == "trial":
            trial = _Trial(record["cell"], record["role"])
            self._trials[record["trial"]] = trial
            self._cells[trial.cell].trials.append(trial)
        elif kind == "task":
            self._take_task(self._trials[record["trial"]], record)
        elif kind == "end":
            self._take_end(self._trials[record["trial"]], record)
        elif kind == "winner":
            self._cells[record["cell"]].winner = True
        elif kind == "failed_cell":
            self._cells[record["cell"]].failed = True
            self._console.print(f"{record['cell']}: {record['error']}", highlight=False)

    def _take_task(self, trial: _Trial, record: Record) -> None:
        trial.task = record["task"]
        metric = self._plan.spec.metric if trial.role == "search" else "test/accuracy"
        trial.value = record["metrics"].get(metric)

    def _take_end(self, trial: _Trial, record: Record) -> None:
        trial.status = record["status"]
        tasks = self._cells[trial.cell].tasks
        error = f": {record['error']}" if record["error"] else ""
        if error or not self._console.is_terminal:
            metric = self._plan.spec.metric if trial.role == "search" else "test/accuracy"
            reached = "" if trial.value is None else f" {metric} {trial.value:.3f}"
            self._console.print(
                f"{_clock(time.monotonic() - self._start)} {self._labels[trial.cell]}: "
                f"{trial.role} {trial.status} at task {trial.task}/{tasks}{reached}{error}",
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
            table.add_row(
                self._labels[cell_id],
                self._status(cell),
                _tasks_seen(cell),
                _number(self._best(cell.of("search"), cell.tasks)),
                _mean([one for one in cell.of("confirm") if one.value is not None]),
            )
        return table

    def _status(self, cell: _Cell) -> Text:
        if cell.failed:
            return Text("failed", style="red")
        role = "confirm" if cell.winner else "search"
        total = len(self._plan.spec.seeds) if cell.winner else self._plan.spec.trials
        trials = cell.of(role)
        ended = sum(one.status not in ("running", "interrupted") for one in trials)
        if cell.winner and ended == total:
            good = sum(one.status == "completed" for one in trials)
            if good == total:
                return Text("done", style="green")
            return Text(f"done, {total - good} of {total} failed", style="red")
        if not trials:
            return Text("waiting", style="dim")
        return Text(f"{'confirming' if cell.winner else 'searching'} {ended}/{total}")

    def _best(self, trials: Sequence[_Trial], tasks: int) -> float | None:
        sign = self._plan.spec.sign
        values = [one.value for one in trials if one.value is not None and one.task == tasks]
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
    return f"{', '.join(running)} of {cell.tasks}" if running else f"– of {cell.tasks}"


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
