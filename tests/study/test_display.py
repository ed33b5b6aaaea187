import io
from collections.abc import Sequence

from rich.console import Console

from study.display import Display
from study.ledger import Record
from study.planning import Plan
from tests.study.small_study import small_plan

SEVERAL = {
    "objective": {"val/accuracy": "max", "memory/subspace_bytes": "min"},
    "pruner": {"kind": "none"},
}


def shown(plan: Plan, records: Sequence[Record], past: Sequence[Record] = ()) -> list[list[str]]:
    """The rows of the table: cell, status, tasks seen, best, test accuracy."""
    display = Display(plan, Console(file=io.StringIO(), width=200))
    display.recall(past)
    for record in records:
        display.write(record)
    console = Console(file=io.StringIO(), width=200)
    with console.capture() as capture:
        console.print(display._table())
    lines = [line for line in capture.get().splitlines() if line.startswith("│")]
    return [[one.strip() for one in line.strip("│").split("│")] for line in lines]


def lines(plan: Plan, records: Sequence[Record], past: Sequence[Record] = ()) -> str:
    """What is printed without a terminal."""
    file = io.StringIO()
    display = Display(plan, Console(file=file, width=200))
    display.recall(past)
    for record in records:
        display.write(record)
    return file.getvalue()


def trial(
    plan: Plan, role: str, rank: int, tasks: int, value: float, seed: int = 0, end: str = ""
) -> list[Record]:
    """A trial of the plan's first cell, as far as `tasks`."""
    cell = plan.cells[0]
    name = f"{role} {rank} {seed}"
    split = "val" if role == "search" else "test"
    planned = cell.search_tasks if role == "search" else cell.tasks
    about = {"cell": cell.id, "role": role, "searched": {"method.rank": rank}, "seed": seed}
    found: list[Record] = [{"kind": "trial", "trial": name, "tasks": planned, "time": 1.0, **about}]
    for task in range(1, tasks + 1):
        metrics = {f"{split}/accuracy": value, "memory/subspace_bytes": 5.0}
        found.append({"kind": "task", "trial": name, "task": task, "metrics": metrics, "time": 2.0})
    if end:
        found.append({"kind": "end", "trial": name, "status": end, "error": None, "time": 3.0})
    return found


def winner(plan: Plan, rank: int, *points: int) -> list[Record]:
    """The winner of the first cell, and a front where there are points."""
    cell = plan.cells[0].id
    found: list[Record] = [{"kind": "winner", "cell": cell, "searched": {"method.rank": rank}}]
    listed = [{"searched": {"method.rank": one}} for one in points]
    return [*found, {"kind": "front", "cell": cell, "points": listed}] if points else found


def test_a_search_of_the_first_tasks_is_done_after_those() -> None:
    search = {"protocol": "first_k_tasks", "first_tasks": 2, "space": "all"}
    plan = small_plan(grid={"method.name": ["inflora"], "data.tasks": [4]}, search=search)
    rows = shown(plan, trial(plan, "search", 4, 2, 0.7, end="completed"))
    assert rows == [["inflora, 4 tasks", "searching 1/3", "– of 4", "0.700", ""]]
    text = lines(plan, trial(plan, "search", 4, 2, 0.7, end="completed"))
    assert "search completed at task 2/2 val/accuracy 0.700" in text
    assert shown(plan, trial(plan, "search", 4, 1, 0.7))[0][2:4] == ["1 of 2", ""]


def test_labels_name_the_protocol_and_where_settings_come_from() -> None:
    search = {"protocol": "transfer", "confirm_on": [{"data.tasks": 2}], "space": "all"}
    plan = small_plan(grid={"method.name": ["inflora"], "data.tasks": [4]}, search=search)
    labels = [row[0] for row in shown(plan, [])]
    assert labels == ["inflora, 4 tasks", "inflora, 2 tasks, tuned on data.tasks=4"]


def test_every_point_of_a_front_is_confirmed_on_the_cells_seeds() -> None:
    plan = small_plan(grid={"method.name": ["inflora"], "data.tasks": [4]}, **SEVERAL)
    records = [
        *trial(plan, "search", 4, 4, 0.7, end="completed"),
        *winner(plan, 4, 4, 2),
        *trial(plan, "confirm", 4, 4, 0.6, 0, "completed"),
        *trial(plan, "confirm", 2, 4, 0.1, 0, "completed"),
    ]
    (row,) = shown(plan, records)
    # The columns are of the first objective, and of the point that is best in it.
    assert row == ["inflora, 4 tasks", "confirming 2/4", "– of 4", "0.700", "0.600 at task 4"]
    rest = [
        *trial(plan, "confirm", 4, 4, 0.6, 1, "completed"),
        *trial(plan, "confirm", 2, 4, 0.1, 1, "failed"),
    ]
    assert shown(plan, [*records, *rest])[0][1] == "done, 1 of 4 failed"


def test_a_transfer_is_done_without_the_seed_of_the_search() -> None:
    search = {"protocol": "transfer", "space": "all"}
    plan = small_plan(grid={"method.name": ["inflora"], "data.tasks": [4]}, search=search)
    records = [*winner(plan, 4), *trial(plan, "confirm", 4, 4, 0.6, 1, "completed")]
    assert shown(plan, records)[0][1] == "done"


def test_a_resumed_study_begins_where_it_stood_and_prints_nothing_twice() -> None:
    plan = small_plan(grid={"method.name": ["inflora"], "data.tasks": [4]})
    past = [
        *trial(plan, "search", 2, 4, 0.5, end="completed"),
        *trial(plan, "search", 4, 2, 0.7),
    ]
    resumed: Record = {"kind": "resumed", "spec": {}, "time": 5.0}
    assert shown(plan, [resumed], past)[0][1:4] == ["searching 1/3", "– of 4", "0.500"]
    assert lines(plan, [resumed], past) == ""
    rest = trial(plan, "search", 4, 4, 0.7, end="completed")
    # Whether its record comes again or not, it is one trial.
    for again in (rest, rest[1:]):
        assert shown(plan, [resumed, *again[:-1]], past)[0][2] == "4 of 4"
        assert shown(plan, [resumed, *again], past)[0][1:4] == ["searching 2/3", "– of 4", "0.700"]
    assert lines(plan, [resumed, *rest], past).count("search completed") == 1


def test_confirmations_of_an_earlier_winner_do_not_count() -> None:
    plan = small_plan(grid={"method.name": ["inflora"], "data.tasks": [4]})
    past = [
        *winner(plan, 2),
        *trial(plan, "confirm", 2, 4, 0.1, 0, "completed"),
        *trial(plan, "confirm", 2, 4, 0.1, 1, "completed"),
    ]
    assert shown(plan, [], past)[0][1] == "done"
    records = [*winner(plan, 4), *trial(plan, "confirm", 4, 4, 0.6, 0, "completed")]
    assert shown(plan, records, past)[0][1::3] == ["confirming 1/2", "0.600 at task 4"]


def test_kinds_and_cells_that_are_not_shown_are_passed_over() -> None:
    plan = small_plan(grid={"method.name": ["inflora"], "data.tasks": [4]})
    other = [{**one, "cell": "gone"} for one in trial(plan, "search", 4, 4, 0.7, end="completed")]
    more: list[Record] = [
        {"kind": "checkpoint", "trial": "search 4 0", "task": 1},
        {"kind": "future"},
    ]
    assert shown(plan, [*other, *more])[0][1] == "waiting"


def test_a_failed_cell_is_told_once() -> None:
    plan = small_plan(grid={"method.name": ["inflora"], "data.tasks": [4]})
    failed: Record = {"kind": "failed_cell", "cell": plan.cells[0].id, "error": "none saw all"}
    assert "none saw all" in lines(plan, [failed])
    assert lines(plan, [], [failed]) == ""
    assert shown(plan, [], [failed])[0][1] == "failed"
