from study.ledger import Record
from study.report.sections.answers.missing import MissingCell, missing_cells, missing_lines
from tests.study.histories import study_of
from tests.study.report import engine_ledgers
from tests.study.report.engine_ledgers import TASKS, Script
from tests.study.report.studies import without_first
from tests.study.report.two_arms import ARMS, GOOD, ledger, shifted, taken

CELL = f"method.name=inflora,data.tasks={TASKS}"


def begun(searches: int) -> Script:
    """A study of two cells, four search trials and three seeds each; the first has begun."""
    script = Script()
    script.open(trials=4, objective={"val/accuracy": "max"})
    cell = script.cell({"method.name": "inflora", "data.tasks": TASKS})
    script.cell({"method.name": "sequential", "data.tasks": TASKS})
    for rank in range(1, searches + 1):
        script.end(script.trial(cell, "search", rank, 0.5))
    return script


def cells_of(records: list[Record]) -> list[MissingCell]:
    return missing_cells(study_of(records))


def test_a_search_under_way_is_counted() -> None:
    script = begun(searches=2)
    script.trial(CELL, "search", 9, 0.5, tasks=3)
    first, second = cells_of(script.records)
    assert (first.searched, first.search_trials, first.running) == (2, 4, 1)
    assert (first.confirmed, first.confirmations, first.pending) == (0, 3, ())
    assert (second.searched, second.search_trials, second.running) == (0, 4, 0)
    assert missing_lines(study_of(script.records)) == [
        "This study is running: 0 of 2 cells have all results.",
        "inflora, 10 tasks: 2 of 4 search trials have ended, no setting is chosen yet; without an "
        "end: 1 trial.",
        "sequential, 10 tasks: 0 of 4 search trials have ended, no setting is chosen yet.",
    ]


def test_confirmations_that_did_not_run_or_were_interrupted_are_still_to_run() -> None:
    script = begun(searches=4)
    script.win(CELL, 2)
    script.confirm(CELL, 2, 0.5, seeds=(1,))
    lost = script.trial(CELL, "confirm", 2, 0.5, seed=0, tasks=2)
    stopped = [*script.records]
    script.end(lost, "failed", error="ValueError: no")
    first, _ = cells_of(script.finish("interrupted"))
    assert first.search_over
    assert (first.confirmed, first.failed, first.pending) == (1, 1, ((1, 2),))
    assert missing_lines(study_of(script.records))[1] == (
        "inflora, 10 tasks: 1 of 3 confirmations are completed, 1 failed; still to confirm: seed 2."
    )
    script = Script(script.now, stopped)
    script.end(lost, "interrupted")
    first, _ = cells_of(script.finish("interrupted"))
    assert first.pending == ((1, 0), (1, 2))


def test_seeds_that_looks_have_asked_for_are_to_be_confirmed_too() -> None:
    rounds = {"first": 3, "at_most": 8, "until": "decided"}
    arms = (GOOD, {**shifted([2.0, -1.0, 1.0]), 3: 0.8})
    study = ledger(*arms, seeds=rounds, finished=False, looks=[taken(next_seeds=(3,))])
    (first,) = missing_cells(study)
    assert (first.cell, first.further, first.pending) == (ARMS[0], (3,), ((1, 3),))
    assert missing_lines(study)[1] == (
        "inflora: 3 of 4 confirmations are completed; still to confirm: seed 3."
    )


def test_each_point_of_a_front_is_to_be_confirmed() -> None:
    records = engine_ledgers.several_objectives()
    assert cells_of(records) == []
    assert missing_lines(study_of(records)) == []
    fewer = without_first(records, "confirm")
    (cell,) = cells_of(fewer)
    assert missing_lines(study_of(fewer))[1].endswith("still to confirm: setting 1 on seed 0.")
    assert (cell.settings, cell.confirmed, cell.confirmations) == (3, 8, 9)
    assert cell.pending == ((1, 0),)


def test_a_search_that_was_extended_is_not_over() -> None:
    records = engine_ledgers.resumed()
    assert cells_of(records) == []
    script = Script(records[-1]["time"], list(records))
    script.open("resumed", trials=7, seeds=[0, 1, 2], objective={"val/accuracy": "max"})
    script.trial(CELL, "search", 9, 0.5, tasks=3)
    (cell,) = cells_of(script.records)
    assert (cell.searched, cell.search_trials, cell.search_over) == (1, 7, False)


def test_a_cell_that_failed_says_why_and_lacks_its_result_for_good() -> None:
    script = begun(searches=4)
    script.add("failed_cell", cell=CELL, error="none saw all tasks")
    lines = missing_lines(study_of(script.finish()))
    assert "inflora, 10 tasks: failed: none saw all tasks." in lines


def test_one_configuration_lacks_nothing() -> None:
    script = begun(searches=1)
    script.records[0]["once"] = True
    assert cells_of(script.records) == []
