from study.analysis.findings import findings
from study.analysis.gallery import pictures
from study.analysis.missing import MissingCell, missing_cells, missing_lines
from study.analysis.page import page
from study.analysis.records import from_records
from study.ledger import Record
from tests.study.analysis import engine_ledgers
from tests.study.analysis.engine_ledgers import TASKS, Script


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
    return missing_cells(from_records(records))


def test_a_search_under_way_is_counted() -> None:
    script = begun(searches=2)
    script.trial("method.name=inflora,data.tasks=10", "search", 9, 0.5, tasks=3)
    first, second = cells_of(script.records)
    assert (first.searched, first.search_trials, first.running) == (2, 4, 1)
    assert (first.confirmed, first.confirmations, first.pending) == (0, 3, ())
    assert (second.searched, second.search_trials, second.running) == (0, 4, 0)
    lines = missing_lines(from_records(script.records))
    assert lines == [
        "This study is running: 0 of 2 cells have all results.",
        "inflora, 10 tasks: 2 of 4 search trials have ended, no setting is chosen yet; without an "
        "end: 1 trial.",
        "sequential, 10 tasks: 0 of 4 search trials have ended, no setting is chosen yet.",
    ]


def test_confirmations_still_to_run_are_named_by_their_seeds() -> None:
    script = begun(searches=4)
    script.win("method.name=inflora,data.tasks=10", 2)
    script.confirm("method.name=inflora,data.tasks=10", 2, 0.5, seeds=(1,))
    lost = script.trial("method.name=inflora,data.tasks=10", "confirm", 2, 0.5, seed=0, tasks=2)
    script.end(lost, "failed", error="ValueError: no")
    first, _ = cells_of(script.finish("interrupted"))
    assert first.search_over
    assert (first.confirmed, first.failed, first.pending) == (1, 1, ((1, 2),))
    (line,) = (one for one in missing_lines(from_records(script.records)) if "inflora" in one)
    assert line == (
        "inflora, 10 tasks: 1 of 3 confirmations are completed, 1 failed; still to confirm: seed 2."
    )


def test_an_interrupted_confirmation_is_still_to_run() -> None:
    script = begun(searches=4)
    script.win("method.name=inflora,data.tasks=10", 2)
    trial = script.trial("method.name=inflora,data.tasks=10", "confirm", 2, 0.5, seed=0, tasks=2)
    script.end(trial, "interrupted")
    first, _ = cells_of(script.finish("interrupted"))
    assert first.pending == ((1, 0), (1, 1), (1, 2))


def test_each_point_of_a_front_is_to_be_confirmed() -> None:
    records = engine_ledgers.several_objectives()
    assert cells_of(records) == []
    name = next(
        one["trial"] for one in records if one["kind"] == "trial" and one["role"] == "confirm"
    )
    (cell,) = cells_of([one for one in records if one.get("trial") != name])
    assert (cell.settings, cell.confirmed, cell.confirmations) == (3, 8, 9)
    assert cell.pending == ((1, 0),)


def test_a_search_that_was_extended_is_not_over() -> None:
    records = engine_ledgers.resumed()
    assert cells_of(records) == []
    script = Script(records[-1]["time"], list(records))
    script.open("resumed", trials=7, seeds=[0, 1, 2], objective={"val/accuracy": "max"})
    script.trial("method.name=inflora,data.tasks=10", "search", 9, 0.5, tasks=3)
    (cell,) = cells_of(script.records)
    assert not cell.search_over
    assert (cell.searched, cell.search_trials) == (1, 7)


def test_a_cell_that_failed_says_why_and_lacks_its_result_for_good() -> None:
    script = begun(searches=4)
    script.add("failed_cell", cell="method.name=inflora,data.tasks=10", error="none saw all tasks")
    lines = missing_lines(from_records(script.finish()))
    assert "inflora, 10 tasks: failed: none saw all tasks." in lines


def test_one_configuration_lacks_nothing() -> None:
    script = begun(searches=1)
    script.records[0]["once"] = True
    assert cells_of(script.records) == []


def test_the_page_of_a_study_under_way_shows_what_is_missing() -> None:
    script = begun(searches=4)
    script.win("method.name=inflora,data.tasks=10", 2)
    script.confirm("method.name=inflora,data.tasks=10", 2, 0.5, seeds=(1,))
    found = findings(from_records(script.records))
    html = page(found, pictures(found.cells))
    assert "<h2>What is missing</h2>" in html
    assert "0 of 2 cells have all their results" in html
    assert "seed 0, 2</td>" in html
    complete = findings(from_records(engine_ledgers.several_objectives()))
    assert "What is missing" not in page(complete, [])
