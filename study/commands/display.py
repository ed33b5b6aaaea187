"""What a person sees while a study runs: a live table, or a line a trial without a terminal."""

import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from study.commands.session import Beside
from study.ledger import History, Record, TrialHistory, is_open, labels
from study.planning import Cell, Plan
from study.system import harmless

HEADINGS = ("cell", "status", "tasks seen", "best {}", "test/accuracy")
# Of the report's summary, what fits into a terminal: by the words before the unit.
SUMMARY = ("cell", "final accuracy", "AAA", "forgetting", "best setting")


class Display:
    """Shows a study while it runs, as a context.

    Args:
        plan: what is going to run.
        history: what has been recorded, kept up to date by the caller.
        console: where to; without a terminal a line is printed for each trial that ended.
    """

    def __init__(self, plan: Plan, history: History, console: Console) -> None:
        self._plan = plan
        self._history = history
        self._console = console
        self._beside = Beside("The live table")
        varying = labels.varying_keys([cell.key for cell in plan.cells])
        self._contrasts = {
            cell.id: [pair for pair in plan.contrasts if cell.id in (pair.first, pair.second)]
            for cell in plan.cells
        }
        self._labels = {cell.id: labels.cell_label(cell.key, varying) for cell in plan.cells}
        self._start = time.monotonic()
        self._live = Live(
            console=console,
            get_renderable=lambda: self._beside.tried(self._table) or "",
            refresh_per_second=2,
            vertical_overflow="visible",
            # Errors that go elsewhere stay there; at the terminal they stand above the table.
            redirect_stderr=sys.stderr.isatty(),
        )

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._beside.tried(self._live.start, refresh=True)
        return self

    def __exit__(self, *error: object) -> None:
        if self._live.is_started:
            self._beside.tried(self._live.stop)

    def tell(self, record: Record) -> None:
        """Prints a line on a record that a person should hear of, once the history knows it.

        The record stands: what fails here is said and left.
        """
        self._beside.tried(self._tell, record)

    def _tell(self, record: Record) -> None:
        if record["kind"] == "note":
            self._say(f"{record['cell']}: {record['text']}")
        elif record["kind"] == "warning":
            self._say(f"warning: {record['text']}")
        elif record["kind"] == "failed_cell":
            self._say(f"{record['cell']}: {record['error']}")
        elif record["kind"] == "look" and not record["next_seeds"]:
            self._say(f"{_clock(time.monotonic() - self._start)} {_verdict(record)}")
        elif record["kind"] == "end" and (record["error"] or not self._console.is_terminal):
            trial = self._history.trials[record["trial"]]
            metric = self._plan.spec.metric if trial.role == "search" else "test/accuracy"
            value = trial.last(metric)
            reached = "" if value is None else f" {metric} {value:.3f}"
            error = f": {record['error']}" if record["error"] else ""
            self._say(
                f"{_clock(time.monotonic() - self._start)} {self._labels[trial.cell]}: "
                f"{trial.role} {trial.status} at task {trial.task}/{trial.planned}{reached}{error}"
            )

    def _say(self, line: str) -> None:
        self._console.print(harmless(line), highlight=False, markup=False, soft_wrap=True)

    def _table(self) -> Table:
        spec = self._plan.spec
        now = "" if self._history.trials else "  starting Ray"
        title = plain(f"{spec.name}  {_clock(time.monotonic() - self._start)}{now}")
        chance = self._plan.chance
        caption = None if chance is None else f"guessing would reach {chance:.3f}"
        table = Table(title=title, caption=caption, title_justify="left", caption_justify="left")
        for heading in HEADINGS:
            table.add_column(heading.format(spec.metric), no_wrap=heading != "cell")
        for cell in self._plan.cells:
            searches = self._history.of_cell(cell.id, "search")
            confirmations = self._confirmations(cell)
            shown = [trial for trial in confirmations if trial.searched in self._settings(cell)[:1]]
            table.add_row(
                plain(self._labels[cell.id]),
                self._status(cell, searches, confirmations),
                _tasks_seen(cell, [*searches, *confirmations]),
                self._best(cell, searches),
                _mean(shown),
            )
        return table

    def _settings(self, cell: Cell) -> list[Mapping[str, Any]]:
        """The settings that the cell's search chose to be confirmed, best first."""
        front = self._history.fronts.get(cell.id)
        if front is not None:
            return [point.searched for point in front]
        winner = self._history.winners.get(cell.id)
        return [] if winner is None else [winner.searched]

    def _confirmations(self, cell: Cell) -> list[TrialHistory]:
        """Those of the cell's settings; of a winner that is none any more, there may be others."""
        settings = self._settings(cell)
        trials = self._history.of_cell(cell.id, "confirm")
        return [trial for trial in trials if trial.searched in settings]

    def _status(
        self, cell: Cell, searches: Sequence[TrialHistory], confirmations: Sequence[TrialHistory]
    ) -> Text:
        if cell.id in self._history.failed_cells:
            return Text("failed", style="red")
        settings = self._settings(cell)
        trials = confirmations if settings else searches
        total = len(cell.seeds) * len(settings) if settings else self._plan.spec.trials
        ended = sum(trial.ended for trial in trials)
        most = str(total)
        if settings and self._is_open(cell):
            most, total = f"up to {total + len(cell.further)}", -1
        elif settings:
            total += len(self._history.further_seeds().get(cell.id, ()))
            most = str(total)
        if settings and ended == total:
            good = sum(trial.status == "completed" for trial in trials)
            if good == total:
                return Text("done", style="green")
            return Text(f"done, {total - good} of {total} failed", style="red")
        if not trials:
            return Text("waiting", style="dim")
        return Text(f"{'confirming' if settings else 'searching'} {ended}/{most}")

    def _is_open(self, cell: Cell) -> bool:
        """Whether a contrast may still ask for further seeds of a cell."""
        looks, winners = self._history.looks, self._history.winners
        return bool(cell.further) and any(
            is_open(pair, looks.get(pair.name, ()), winners) for pair in self._contrasts[cell.id]
        )

    def _best(self, cell: Cell, searches: Sequence[TrialHistory]) -> str:
        """The best value of the first objective, among the trials that saw all they were to."""
        sign, metric = self._plan.spec.sign, self._plan.spec.metric
        seen = [trial.last(metric) for trial in searches if trial.task == cell.search_tasks]
        values = [value for value in seen if value is not None]
        return f"{max(values, key=lambda value: sign * value):.3f}" if values else ""


def plain(text: str) -> Text:
    """A text for tables: a name is no markup, and commands no terminal."""
    return Text(harmless(text))


def summary_table(rows: Sequence[Mapping[str, str]], title: str) -> Table:
    """The rows of the report's summary as a table for the terminal."""
    table = Table(title=title, title_justify="left")
    headings = [
        heading for heading in (rows[0] if rows else {}) if heading.partition(",")[0] in SUMMARY
    ]
    for heading in headings:
        wraps = heading in ("cell", "best setting")
        # Folded where a terminal is narrow: a setting that is cut short is of no use.
        justify: Literal["left", "right"] = "left" if wraps else "right"
        table.add_column(heading, justify=justify, no_wrap=not wraps, overflow="fold")
    for row in rows:
        table.add_row(*(plain(row[heading]) for heading in headings))
    return table


def _tasks_seen(cell: Cell, trials: Sequence[TrialHistory]) -> str:
    running = [trial for trial in trials if trial.status == "running"]
    searching = any(trial.role == "search" for trial in running)
    tasks = cell.search_tasks if searching else cell.tasks
    seen = ", ".join(str(trial.task) for trial in running)
    return f"{seen} of {tasks}" if running else f"– of {tasks}"


def _mean(trials: Sequence[TrialHistory]) -> str:
    """Mean test accuracy of confirmation trials so far, each at its own task."""
    reached = [
        (trial.task, value)
        for trial in trials
        if (value := trial.last("test/accuracy")) is not None
    ]
    if not reached:
        return ""
    tasks = sorted({task for task, _ in reached})
    at = f"{tasks[0]}" if len(tasks) == 1 else f"{tasks[0]}–{tasks[-1]}"
    return f"{sum(value for _, value in reached) / len(reached):.3f} at task {at}"


def _verdict(record: Record) -> str:
    """The last look at a contrast, in the unit of its margin."""
    text = f"{record['contrast']}: {record['verdict']}"
    if record["mean"] is not None:
        text += f", {record['mean']:+.2f}"
    if record["low"] is not None:
        text += f" [{record['low']:.2f}, {record['high']:.2f}]"
    seeds = len(record["seeds"])
    return f"{text} on {seeds} seed{'' if seeds == 1 else 's'}"


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60:d}:{int(seconds) % 60:02d}"
