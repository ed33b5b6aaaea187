"""What a person sees while a study runs: a live table, or a line a trial without a terminal."""

import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from study.commands.progress import (
    contrast_lines,
    done_words,
    progress_lines,
    times_words,
    verdict_words,
)
from study.commands.session import Beside
from study.commands.tables import clock, fitted, new_table
from study.ledger import History, Record, TrialHistory, is_open, labels
from study.planning import Cell, Plan
from study.planning.costs import Remaining, remaining
from study.system import harmless

HEADINGS = ("cell", "trials", "tasks", "best", "test")
# Between two looks at what remains, of a study with very many trials.
LOOK_SECONDS = 2.0
# Without a terminal, what remains is said as often as this in a study.
TOLD = 10


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
        self._left: Remaining | None = None
        self._looked = self._start
        self._told = 0
        # Once it is; rich asks for it before.
        self._is_shown = False
        self._live = Live(
            console=console,
            get_renderable=self._drawn,
            refresh_per_second=2,
            vertical_overflow="visible",
            # Errors that go elsewhere stay there; at the terminal they stand above the table.
            redirect_stderr=sys.stderr.isatty(),
        )

    def _drawn(self) -> RenderableType:
        shown = self._beside.tried(self._shown) if self._is_shown else None
        return "" if shown is None else shown

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._is_shown = True
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
            look = self._history.looks[record["contrast"]][-1]
            self._say(f"{self._clock()} {look.contrast}: {verdict_words(look)}")
        elif record["kind"] == "end" and (record["error"] or not self._console.is_terminal):
            trial = self._history.trials[record["trial"]]
            metric = self._plan.spec.metric if trial.role == "search" else "test/accuracy"
            value = trial.last(metric)
            reached = "" if value is None else f" {metric} {value:.3f}"
            error = f": {record['error']}" if record["error"] else ""
            self._say(
                f"{self._clock()} {self._labels[trial.cell]}: "
                f"{trial.role} {trial.status} at task {trial.task}/{trial.planned}{reached}{error}"
            )
            self._tell_progress()

    def _tell_progress(self) -> None:
        """Says what remains, every now and then where no table shows it."""
        left = self._remaining()
        part = left.ended * TOLD // max(1, left.planned)
        if part > self._told and not self._console.is_terminal:
            self._told = part
            self._say(f"{done_words(left)}; {times_words(self._elapsed, left)}")

    @property
    def _elapsed(self) -> float:
        """Seconds of all sessions so far."""
        return self._history.walls.total + time.monotonic() - self._start

    def _clock(self) -> str:
        return clock(time.monotonic() - self._start)

    def _remaining(self) -> Remaining:
        now = time.monotonic()
        if self._left is None or now - self._looked > LOOK_SECONDS:
            self._left = remaining(self._plan, self._history, time.time())
            # Where it takes long, it is asked for less often.
            self._looked = time.monotonic() + 10 * (time.monotonic() - now)
        return self._left

    def _say(self, line: str) -> None:
        # In a file a line each; at a terminal they break between words.
        lines = not self._console.is_terminal
        self._console.print(harmless(line), highlight=False, markup=False, soft_wrap=lines)

    def _shown(self) -> RenderableType:
        """How far the study is, a line a cell, and where the contrasts stand."""
        name = self._plan.spec.name
        if not self._history.trials:
            name = f"{name}  starting Ray"
        chance = self._plan.chance
        guess = "" if chance is None else f"; guessing would reach {chance:.3f}"
        legend = f"best: {self._plan.spec.metric}; test: test/accuracy after so many tasks{guess}"
        parts: list[RenderableType] = [
            progress_lines(name, self._elapsed, self._remaining()),
            Text(),
            self._table(),
            Text(harmless(legend), style="dim"),
        ]
        contrasts = contrast_lines(self._plan, self._history)
        if contrasts is not None:
            parts += [Text(), contrasts]
        return Group(*parts)

    def _table(self) -> Table:
        table = new_table()
        for heading in HEADINGS:
            table.add_column(heading, no_wrap=heading != "cell")
        trials: dict[tuple[str, str], list[TrialHistory]] = {}
        for trial in self._history.trials.values():
            trials.setdefault((trial.cell, trial.role), []).append(trial)
        for cell in self._plan.cells:
            settings = self._settings(cell)
            searches = trials.get((cell.id, "search"), [])
            # Of a winner that is none any more, there may be others.
            confirmed = [
                trial
                for trial in trials.get((cell.id, "confirm"), [])
                if trial.searched in settings
            ]
            shown = [trial for trial in confirmed if trial.searched in settings[:1]]
            table.add_row(
                fitted(self._labels[cell.id]),
                self._status(cell, searches, confirmed),
                _tasks_seen(cell, [*searches, *confirmed]),
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
            asked = total + len(self._history.further_seeds().get(cell.id, ()))
            most, total = f"{asked}–{total + len(cell.further)}", -1
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


def _tasks_seen(cell: Cell, trials: Sequence[TrialHistory]) -> str:
    running = [trial for trial in trials if trial.status == "running"]
    searching = any(trial.role == "search" for trial in running)
    tasks = cell.search_tasks if searching else cell.tasks
    ends = sorted({trial.task for trial in running})
    seen = "–".join(str(task) for task in dict.fromkeys((ends[0], ends[-1]))) if ends else ""
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
    return f"{sum(value for _, value in reached) / len(reached):.3f} at {at}"
