"""Where nothing was searched, the page speaks neither of a search nor of chosen settings."""

from dataclasses import replace

from study.analysis.method import method_lines
from study.analysis.records import from_records
from study.analysis.results import GIVEN, SEARCHED, results_section
from study.analysis.summary import summarise
from tests.study.analysis.ledgers import made_up_study
from tests.study.analysis.made_up_trials import cell, study, trial


def test_the_seeds_are_those_that_ran() -> None:
    one = study([trial([{"test/accuracy": 0.5}])], [cell("cell", {}, 5)])
    for spec, seeds in (
        ({"seeds": [0, 1, 2]}, "0, 1, 2"),
        ({"seeds": [0, 1, 2], "search": {"protocol": "transfer", "space": "none"}}, "1, 2"),
    ):
        lines = method_lines(replace(one, study=replace(one.study, spec=spec)))
        assert lines[1:] == [f"Every cell was trained on the seeds {seeds}."]
        assert "chosen" not in " ".join(lines)


def test_the_table_of_results_says_how_settings_came_about() -> None:
    given = summarise(study([trial([{"test/accuracy": 0.5}])], [cell("cell", {}, 5)]))
    assert GIVEN in results_section(given)
    assert "search of each cell" not in results_section(given)
    assert SEARCHED in results_section(summarise(from_records(made_up_study())))
