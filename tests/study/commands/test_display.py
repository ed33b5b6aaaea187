import io
import os
import pty
import sys
from collections.abc import Sequence
from typing import Any

import pytest
from rich.console import Console

from study.commands.display import Display
from study.commands.tables import summary_table
from study.ledger import Record, history_of, records
from study.planning.cells import Plan, Role
from study.system import guarded_output, say
from tests.study.histories import facts, timed
from tests.study.small_study import records_of, small_plan

SEVERAL = {
    "objective": {"val/accuracy": "max", "memory/subspace_bytes": "min"},
    "pruner": {"kind": "none"},
}
ONE_CELL = {"method.name": ["inflora"], "data.tasks": [4]}


def displayed(
    plan: Plan, ledger: Sequence[Record], past: Sequence[Record] = ()
) -> tuple[Display, str]:
    """A display once it was told of these records, and what it has printed without a terminal."""
    file = io.StringIO()
    stamped = timed([*past, *ledger])
    history = history_of(stamped[: len(past)])
    display = Display(plan, history, Console(file=file, width=200))
    for record in stamped[len(past) :]:
        history.add(record)
        display.tell(record)
    return display, file.getvalue()


def shown(plan: Plan, ledger: Sequence[Record], past: Sequence[Record] = ()) -> list[list[str]]:
    """The rows of the table: cell, status, tasks seen, best, test accuracy."""
    table = displayed(plan, ledger, past)[0]._table()
    columns = [[str(entry) for entry in column.cells] for column in table.columns]
    return [list(row) for row in zip(*columns, strict=True)]


def trial(
    plan: Plan,
    role: Role,
    rank: int,
    tasks: int,
    value: float,
    seed: int = 0,
    end: records.Status | None = None,
) -> list[Record]:
    """A trial of the plan's first cell, as far as `tasks`."""
    metric = "val/accuracy" if role == "search" else "test/accuracy"
    measured = {metric: value, "memory/subspace_bytes": 5.0}
    return records_of(
        plan.cells[0].trial(role, {"method.rank": rank}, seed), [measured] * tasks, end
    )


def winner(plan: Plan, rank: int, *points: int) -> list[Record]:
    """The winner of the first cell, and a front where there are points."""
    cell = plan.cells[0].id
    chosen = records.winner(cell, "x", {"method.rank": rank}, 0.5, "val/accuracy", {})
    front = records.front(cell, [("x", {"method.rank": point}, {}) for point in points])
    return [chosen, front] if points else [chosen]


def test_a_search_of_the_first_tasks_is_done_after_those() -> None:
    search = {"protocol": "first_k_tasks", "first_tasks": 2, "space": "all"}
    plan = small_plan(grid=ONE_CELL, search=search)
    rows = shown(plan, trial(plan, "search", 4, 2, 0.7, end="completed"))
    assert rows == [["inflora, 4 tasks", "searching 1/3", "– of 4", "0.700", ""]]
    text = displayed(plan, trial(plan, "search", 4, 2, 0.7, end="completed"))[1]
    assert "search completed at task 2/2 val/accuracy 0.700" in text
    assert shown(plan, trial(plan, "search", 4, 1, 0.7))[0][2:4] == ["1 of 2", ""]


def test_labels_name_the_protocol_and_where_settings_come_from() -> None:
    search = {"protocol": "transfer", "confirm_on": [{"data.tasks": 2}], "space": "all"}
    plan = small_plan(grid=ONE_CELL, search=search)
    labels = [row[0] for row in shown(plan, [])]
    assert labels == ["inflora, 4 tasks", "inflora, 2 tasks, tuned on data.tasks=4"]


def test_every_point_of_a_front_is_confirmed_on_the_cells_seeds() -> None:
    plan = small_plan(grid=ONE_CELL, **SEVERAL)
    ledger = [
        *trial(plan, "search", 4, 4, 0.7, end="completed"),
        *winner(plan, 4, 4, 2),
        *trial(plan, "confirm", 4, 4, 0.6, 0, "completed"),
        *trial(plan, "confirm", 2, 4, 0.1, 0, "completed"),
    ]
    (row,) = shown(plan, ledger)
    # The columns are of the first objective, and of the point that is best in it.
    assert row == ["inflora, 4 tasks", "confirming 2/4", "– of 4", "0.700", "0.600 at 4"]
    rest = [
        *trial(plan, "confirm", 4, 4, 0.6, 1, "completed"),
        *trial(plan, "confirm", 2, 4, 0.1, 1, "failed"),
    ]
    assert shown(plan, [*ledger, *rest])[0][1] == "done, 1 of 4 failed"


def test_a_transfer_is_done_without_the_seed_of_the_search() -> None:
    plan = small_plan(grid=ONE_CELL, search={"protocol": "transfer", "space": "all"})
    ledger = [*winner(plan, 4), *trial(plan, "confirm", 4, 4, 0.6, 1, "completed")]
    assert shown(plan, ledger)[0][1] == "done"


def test_a_resumed_study_begins_where_it_stood_and_prints_nothing_twice() -> None:
    plan = small_plan(grid=ONE_CELL)
    past = [
        records.study("small", "?", facts({})),
        *trial(plan, "search", 2, 4, 0.5, end="completed"),
        *trial(plan, "search", 4, 2, 0.7),
    ]
    resumed = records.resumed(facts({}))
    assert shown(plan, [resumed], past)[0][1:4] == ["searching 1/3", "– of 4", "0.500"]
    assert displayed(plan, [resumed], past)[1] == ""
    start, *rest = trial(plan, "search", 4, 4, 0.7, end="completed")
    # Whatever it went on from, it is one trial of four tasks.
    for from_task in (0, 2):
        on = [resumed, records.continued(start["trial"], from_task), *rest[from_task:]]
        assert shown(plan, on[:-1], past)[0][2] == "4 of 4"
        assert shown(plan, on, past)[0][1:4] == ["searching 2/3", "– of 4", "0.700"]
        assert displayed(plan, on, past)[1].count("search completed") == 1


def test_confirmations_of_an_earlier_winner_do_not_count() -> None:
    plan = small_plan(grid=ONE_CELL)
    past = [
        *winner(plan, 2),
        *trial(plan, "confirm", 2, 4, 0.1, 0, "completed"),
        *trial(plan, "confirm", 2, 4, 0.1, 1, "completed"),
    ]
    assert shown(plan, [], past)[0][1] == "done"
    ledger = [*winner(plan, 4), *trial(plan, "confirm", 4, 4, 0.6, 0, "completed")]
    assert shown(plan, ledger, past)[0][1::3] == ["confirming 1/2", "0.600 at 4"]


ROUNDS = {
    "grid": {"method.name": ["inflora", "nearest_mean"], "data.tasks": [2]},
    "seeds": {"first": 3, "at_most": 6, "until": "decided"},
    "search": "none",
}


def test_further_seeds_are_counted_as_what_there_may_be() -> None:
    plan = small_plan(**ROUNDS)
    (contrast,) = plan.contrasts
    opening = records.study("small", "?", facts({}, contrasts=plan.contrasts))
    ledger = [opening]
    for cell in plan.cells:
        trial = cell.trial("search", {}, 0)
        ledger.append(records.winner(cell.id, trial.id, {}, None, "val/accuracy", {}))
        for seed in cell.seeds:
            confirmed = [{"test/accuracy": 0.5}] * 2
            ledger += records_of(cell.trial("confirm", {}, seed), confirmed, "completed")
    assert [row[1] for row in shown(plan, ledger)] == ["confirming 3/3–6"] * 2
    of = [cell.trial("search", {}, 0).id for cell in plan.cells]
    numbers: dict[str, Any] = {"mean": 1.234, "std": 1.0, "low": None, "high": None}
    asks = records.look(
        contrast.name,
        [0, 1, 2],
        **numbers,
        verdict="undecided",
        reason="wide",
        by_less_than_margin=False,
        non_inferior=False,
        next_seeds=[3],
        of=of,
    )
    assert shown(plan, [*ledger, asks])[0][1] == "confirming 3/4–6"
    ends = {**asks, "next_seeds": []}
    assert [row[1] for row in shown(plan, [*ledger, ends])] == ["done", "done"]
    # The seed that an earlier look has asked for is due also where a later one closes.
    assert shown(plan, [*ledger, asks, ends])[0][1] == "confirming 3/4"
    ends |= {"verdict": "higher", "low": 0.5, "high": 2.0}
    text = displayed(plan, [*ledger, asks, ends])[1]
    assert text.count("inflora vs nearest_mean") == 1
    assert "inflora vs nearest_mean, 2 tasks: higher, +1.23 [0.50, 2.00] on 3 seeds" in text


def test_kinds_and_cells_that_are_not_shown_are_passed_over() -> None:
    plan = small_plan(grid=ONE_CELL)
    gone = [{**record, "cell": "gone"} for record in trial(plan, "search", 4, 4, 0.7, end="failed")]
    more: list[Record] = [records.checkpoint(gone[0]["trial"], 1, "ray/x", {}), {"kind": "future"}]
    assert shown(plan, more, gone)[0][1] == "waiting"


def test_an_error_a_note_and_a_failed_cell_are_told_once() -> None:
    plan = small_plan(grid=ONE_CELL)
    start, task, _ = trial(plan, "search", 4, 1, 0.7, end="failed")
    failed = records.end(start["trial"], "failed", "ValueError: no", "error")
    note = records.note(plan.cells[0].id, "not tried first: {}")
    text = displayed(plan, [start, task, failed, note])[1]
    assert "search failed at task 1/4 val/accuracy 0.700: ValueError: no" in text
    assert f"{plan.cells[0].id}: not tried first: {{}}" in text
    assert "warning: none" in displayed(plan, [records.warning("none")])[1]
    failed = records.failed_cell(plan.cells[0].id, "none saw all")
    assert "none saw all" in displayed(plan, [failed])[1]
    assert displayed(plan, [], [failed])[1] == ""
    assert shown(plan, [], [failed])[0][1] == "failed"


def test_a_display_that_fails_is_said_once_and_left(capsys: pytest.CaptureFixture[str]) -> None:
    class Broken(io.StringIO):
        def write(self, text: str) -> int:
            raise MemoryError("no room")

    plan = small_plan(grid=ONE_CELL)
    ended = [*trial(plan, "search", 4, 4, 0.5, end="completed"), *winner(plan, 4)]
    ended += trial(plan, "confirm", 4, 4, 0.5, end="completed")
    history = history_of(stamped := timed(ended))
    display = Display(plan, history, Console(file=Broken(), force_terminal=True))
    with display:
        for record in stamped:
            display.tell({**record, "error": "x"} if record["kind"] == "end" else record)
    out, err = capsys.readouterr()
    assert (out, err) == (
        "",
        "The live table failed (MemoryError: no room): going on without it.\n",
    )


def test_names_are_no_markup_and_no_commands() -> None:
    console = Console(file=(file := io.StringIO()), width=200)
    names = ["[/]", "[red]x", "\x1b[2J", "a\u202eb"]
    table = summary_table([{"cell": name} for name in names], [{}] * 4, "title")
    # No column of settings where nothing was searched.
    assert len(table.columns) == 1
    console.print(table)
    lines = [line.strip() for line in file.getvalue().splitlines()]
    assert {"[/]", "[red]x", "\\x1b[2J", "a\\u202eb"} <= {*lines}


@pytest.mark.parametrize("said", ["The terminal takes nothing more (", "later\n"])
def test_a_terminal_that_is_gone_is_said_where_errors_go(
    monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    plan = small_plan(grid=ONE_CELL)
    terminal, inner = pty.openpty()
    with os.fdopen(inner, "w", encoding="utf-8") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        monkeypatch.setattr(sys, "stderr", error := io.StringIO())
        with guarded_output(), Display(plan, history_of([]), Console()):
            os.close(terminal)
            say("lost")
            say("later", error=True)
        assert said in error.getvalue()
