import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from scipy import stats

from study import run
from study.analysis.comparison import ComparedCell, StudyComparison, compare_studies
from study.commands.recorded import show_comparison
from study.ledger import Record
from tests.study.histories import ledger_of
from tests.study.report import engine_ledgers
from tests.study.report.engine_ledgers import Script

KEY = {"method.name": "inflora", "data.tasks": 10}


def confirmed(
    cells: Sequence[dict[str, Any]], finals: Sequence[dict[int, float]], **spec: Any
) -> list[Record]:
    """A study of these cells; `finals` are test accuracies by seed."""
    script = Script()
    script.open(**spec)
    for key, values in zip(cells, finals, strict=True):
        cell = script.cell(key)
        script.win(cell, 4)
        for seed, value in values.items():
            script.end(script.trial(cell, "confirm", 4, value, seed))
    return script.finish()


def folder(path: Path, records: list[Record]) -> Path:
    return ledger_of(records, path).parent


def compared(tmp_path: Path, first: list[Record], second: list[Record]) -> StudyComparison:
    return compare_studies(folder(tmp_path / "a", first), folder(tmp_path / "b", second))


def only(tmp_path: Path, first: dict[int, float], second: dict[int, float]) -> ComparedCell:
    """One cell with these final accuracies by seed."""
    (cell,) = compared(tmp_path, confirmed([KEY], [first]), confirmed([KEY], [second])).cells
    return cell


def test_common_seeds_are_paired_and_the_others_left_out(tmp_path: Path) -> None:
    a = {0: 0.60, 1: 0.65, 2: 0.61, 7: 0.1}
    b = {0: 0.63, 1: 0.69, 2: 0.63, 8: 0.9}
    cell = only(tmp_path, a, b)
    assert cell.test == "paired, 3 seeds"
    assert cell.difference.mean == pytest.approx(0.03)
    expected = stats.ttest_rel([b[seed] for seed in range(3)], [a[seed] for seed in range(3)])
    assert cell.p == pytest.approx(float(expected.pvalue))
    bounds = expected.confidence_interval(0.95)
    assert (cell.difference.low, cell.difference.high) == pytest.approx((bounds.low, bounds.high))
    # The means beside it are over all seeds each study has.
    assert (cell.first.n, cell.second.mean) == (4, pytest.approx(sum(b.values()) / 4))


def test_without_common_seeds_it_is_welchs_test_and_says_so(tmp_path: Path) -> None:
    a, b = {0: 0.60, 1: 0.65, 2: 0.61}, {3: 0.71, 4: 0.79}
    cell = only(tmp_path, a, b)
    assert cell.test == "Welch, 3 and 2 seeds"
    expected = stats.ttest_ind(list(b.values()), list(a.values()), equal_var=False)
    assert cell.p == pytest.approx(float(expected.pvalue))
    bounds = expected.confidence_interval(0.95)
    assert (cell.difference.low, cell.difference.high) == pytest.approx((bounds.low, bounds.high))
    assert cell.difference.n == 5


def test_too_few_seeds_decide_nothing(tmp_path: Path) -> None:
    cell = only(tmp_path, {0: 0.5}, {0: 0.9})
    assert cell.test == "none, too few seeds"
    assert cell.difference.mean == pytest.approx(0.4)
    assert math.isnan(cell.p_holm) and not cell.enough_evidence


def test_holm_is_over_all_cells(tmp_path: Path) -> None:
    cells = [{**KEY, "data.tasks": tasks} for tasks in (5, 10)]
    a = [{0: 0.60, 1: 0.65, 2: 0.61}] * 2
    b = [{0: 0.63, 1: 0.69, 2: 0.63}, {0: 0.61, 1: 0.64, 2: 0.62}]
    first, second = compared(tmp_path, confirmed(cells, a), confirmed(cells, b)).cells
    assert first.p_holm == pytest.approx(2 * first.p)
    assert second.p_holm == pytest.approx(max(second.p, first.p_holm))


def test_a_key_that_is_constant_in_both_is_no_obstacle_and_is_listed(tmp_path: Path) -> None:
    finals = [{0: 0.5, 1: 0.6}]
    first = confirmed([{**KEY, "backbone.name": "small"}], finals, grid={"backbone.name": ["s"]})
    second = confirmed([KEY], finals, fixed={"optim.lr": 0.1})
    comparison = compared(tmp_path, first, second)
    assert [cell.label for cell in comparison.cells] == ["inflora, 10 tasks"]
    assert ("backbone.name", "s", "not set") in comparison.differences
    assert ("optim.lr", "not set", "0.1") in comparison.differences


def test_a_cell_matches_by_values_wherever_they_are_written(tmp_path: Path) -> None:
    """An axis of one study that the other has in `fixed`."""
    cells = [{**KEY, "data.name": name} for name in ("icons", "gaussian")]
    both = confirmed(cells, [{0: 0.5, 1: 0.6}, {0: 0.1, 1: 0.2}])
    alone = confirmed([KEY], [{0: 0.5, 1: 0.6}])
    comparison = compared(tmp_path, both, alone)  # data.name: icons is in `fixed` of every cell
    assert [cell.label for cell in comparison.cells] == ["inflora, 10 tasks, icons"]
    assert comparison.first_only == ("inflora, 10 tasks, gaussian",)
    assert comparison.second_only == ()


def test_a_study_without_comparison_meets_the_cells_of_its_protocol(tmp_path: Path) -> None:
    search = {**engine_ledgers.SEARCH, "protocol": "first_k_tasks", "first_tasks": 3}
    finals = {0: 0.5, 1: 0.6}
    cells = [{**KEY, "search.protocol": name} for name in ("first_k_tasks", "whole_stream")]
    both = confirmed(cells, [finals, finals], search={**search, "compare": True})
    comparison = compared(tmp_path, both, confirmed([KEY], [finals], search=search))
    (cell,) = comparison.cells
    assert cell.label == "inflora, 10 tasks, protocol first_k_tasks"


def test_what_differs_is_told_of_spec_code_and_packages(tmp_path: Path) -> None:
    first = confirmed([KEY], [{0: 0.5}], trials=4, storage="/a", seeds=[0, 1])
    second = confirmed([KEY], [{0: 0.5}], trials=8, storage="/b", seeds=[0, 1])
    second[0] |= {"commit": "def", "versions": {"torch": "2.14.0"}}
    assert compared(tmp_path, first, second).differences == (
        ("trials", "4", "8"),
        ("package torch", "2.13.0", "2.14.0"),
        ("commit", "abc", "def"),
    )


def test_a_constant_axis_is_the_same_as_a_fixed_key(tmp_path: Path) -> None:
    first = confirmed([KEY], [{0: 0.5}], grid={"data.tasks": [10]}, fixed={})
    budget = {"gpu_hours": 2.0}  # without wall_hours, which is null in the other
    second = confirmed([KEY], [{0: 0.5}], grid={}, fixed={"data.tasks": 10}, budget=budget)
    assert compared(tmp_path, first, second).differences == ()


def test_the_tables_fit_a_terminal(tmp_path: Path) -> None:
    first = confirmed([KEY], [{0: 0.60, 1: 0.65, 2: 0.61}], trials=4)
    other = {**KEY, "method.name": "sd_lora"}
    second = confirmed([KEY, other], [{0: 0.63, 1: 0.69, 2: 0.63}, {}], trials=8)
    console = Console(width=80, record=True)
    show_comparison(folder(tmp_path / "a", first), folder(tmp_path / "b", second), console)
    text = console.export_text()
    assert text.index("What differs") < text.index("Final accuracy on test images, %")
    for part in ("62.0 ± 6.6", "3.0 (0.5 to 5.5)", "paired, 3 seeds", "B is"):
        assert part in text
    assert "Only in B: sd_lora, 10 tasks." in text


def test_the_command_compares_two_folders(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = confirmed([KEY], [{0: 0.60, 1: 0.65}])
    a, b = folder(tmp_path / "a", records), folder(tmp_path / "b", records)
    assert run.main(["--compare", str(a), str(b)]) == 0
    told = "What differs: nothing, neither settings nor code nor packages."
    assert told in capsys.readouterr().out


def test_a_folder_without_a_ledger_is_one_message_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = folder(tmp_path / "a", confirmed([KEY], [{0: 0.6}]))
    empty = tmp_path / "empty"
    empty.mkdir()
    for other, message in {
        empty: f"a study's folder must hold its ledger.jsonl, but {empty} does not.",
        tmp_path / "no": f"must hold its ledger.jsonl, but {tmp_path / 'no'} is no folder.",
        there: f"two studies must be in different folders, but got {there} twice.",
    }.items():
        assert run.main(["--compare", str(there), str(other)]) == 2
        error = capsys.readouterr().err
        assert message in error and "Traceback" not in error
