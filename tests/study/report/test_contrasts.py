"""What the page says of declared contrasts."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from study.analysis.contrasts import AFTER, ContrastResult, Later
from study.report import page
from study.report.figures.forest import LOOKS, ForestRow, forest
from study.report.report import write_study
from study.report.section import Findings, Picture, Section, Table, findings
from study.report.sections.answers import answer, contrasts, overview
from tests.study.report.two_arms import FAILED, GOOD, ONE, RUNNING, Finals, ledger, result, shifted

A, B = "inflora", "nearest_mean"


@pytest.mark.parametrize(
    ("by", "said"),
    [
        (
            [16.0, 17.0, 16.5],
            f"{A} is higher than {B} in final accuracy by 16.5 points (95 % interval 15.3 to 17.7, "
            "3 seeds).",
        ),
        (
            [-16.0, -17.0, -16.5],
            f"{A} is lower than {B} in final accuracy by 16.5 points (95 % interval 15.3 to 17.7, "
            "3 seeds).",
        ),
        (
            [0.5, 0.55, 0.45],
            f"{A} is higher than {B} in final accuracy by 0.5 points (95 % interval 0.4 to 0.6, "
            "3 seeds), less than the margin.",
        ),
        (
            [0.1, -0.1, 0.05],
            f"{A} and {B} are equal in final accuracy within the margin of 1 point: 0.0 points "
            "(95 % interval −0.2 to 0.3, 3 seeds).",
        ),
        (
            [2.0, -1.0, 1.0],
            f"{A} against {B} in final accuracy is undecided: +0.7 points (95 % interval −3.1 to "
            "4.5, 3 seeds); about 44 seeds would decide it if mean and spread stay as measured.",
        ),
        (
            [0.0, 0.0, 0.0],
            f"{A} and {B} are identical in final accuracy on all 3 seeds, so nothing is tested.",
        ),
        (
            [1.5, 1.5, 1.5],
            f"{A} against {B} in final accuracy is undecided: the difference is +1.5 points on "
            "each of 3 seeds, and without a spread nothing tells how much another seed would "
            "differ.",
        ),
    ],
)
def test_a_contrast_is_one_sentence(by: list[float], said: str) -> None:
    assert contrasts.sentence(result(GOOD, shifted(by))) == said


@pytest.mark.parametrize(
    ("other", "options", "why"),
    [
        (None, {}, f"{B} has no result"),
        (
            {0: 0.5},
            {"seeds": (0,)},
            "+30.0 points on 1 common seed, which is too few for an interval; no spread was "
            "measured that tells how many seeds would decide it",
        ),
        (
            {0: 0.5, 1: FAILED, 2: FAILED},
            {},
            "+30.0 points on 1 common seed (failed on seeds 1 and 2), which is too few for an "
            "interval; no spread was measured that tells how many seeds would decide it",
        ),
        ({0: math.nan}, {}, "a value is missing or is no finite number"),
        (
            {0: 0.5, 1: 0.52, 2: RUNNING},
            {"finished": False},
            "+30.0 points on 2 common seeds; so far, with seed 2 still to come",
        ),
        (
            {0: 0.5, 1: 0.53},
            {"seeds": {"first": 3, "at_most": 8, "until": "decided"}},
            "+29.5 points on 2 common seeds, which is too few for an interval; about 3 seeds "
            "would decide it if mean and spread stay as measured",
        ),
    ],
)
def test_what_is_missing_is_said(other: Finals | None, options: dict[str, Any], why: str) -> None:
    said = contrasts.sentence(result(GOOD, other, **options))
    assert said == f"{A} against {B} in final accuracy is undecided: {why}."


def changed(found: ContrastResult, **look: Any) -> ContrastResult:
    return dataclasses.replace(found, look=dataclasses.replace(found.look, **look))


def test_non_inferiority_is_said_where_it_was_asked_for() -> None:
    found = result(GOOD, shifted([2.0, -1.0, 1.0]))
    not_lower = changed(found, low=-0.5, non_inferior=True)
    asked = dataclasses.replace(not_lower, non_inferiority=True, margin=2.5)
    assert f"; {A} is shown not to be lower by 2.5 points or more." in contrasts.sentence(asked)
    assert contrasts.verdict_text(asked) == "undecided, not inferior"
    assert "not to be lower" not in contrasts.sentence(not_lower)


def test_other_metrics_have_their_unit_and_their_name() -> None:
    found = result(GOOD, shifted([16.0, 17.0, 16.5]))
    forgotten = dataclasses.replace(found, metric="test/forgetting")
    assert f"{A} is higher than {B} in forgetting by 16.5 points" in contrasts.sentence(forgotten)
    lost = dataclasses.replace(found, metric="test/lost/heads")
    assert f"{A} is higher than {B} in accuracy lost in the heads by" in contrasts.sentence(lost)
    held = dataclasses.replace(found, metric="memory/branch_bytes", group="50 tasks")
    assert contrasts.sentence(held).startswith(
        f"50 tasks: {A} is higher than {B} in memory/branch bytes by 16.5 (95 % interval 15.3 to"
    )


def both(margin: float = 20.0) -> Findings:
    """One contrast declared before, and the same again with another margin."""
    later = Later((ONE,), margin)
    return findings(ledger(GOOD, shifted([16.0, 17.0, 16.5])), later)


def test_what_is_declared_later_is_marked_on_the_page_and_in_the_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, after = answer.answers(both())
    assert "declared" not in before and after.endswith("; declared after the data.")
    section = contrasts.section(both())
    assert "Declared after the data: 1 of 2." in str(section.blocks[0])
    (table,) = (block for block in section.blocks if isinstance(block, Table))
    assert [row["declared"] for row in table.rows] == ["", AFTER]
    monkeypatch.setattr(page, "_svg", lambda picture, name: "<svg></svg>")
    known = both()
    write_study(known.study, tmp_path, Later((ONE,), 20.0))
    first, second = json.loads((tmp_path / "report.json").read_text())["contrasts"]
    assert (first["declared"], second["declared"]) == ("before", AFTER)
    assert (first["verdict"], first["margin"], first["seeds"]) == ("higher", 1.0, [0, 1, 2])
    assert (second["verdict"], second["by_less_than_margin"]) == ("higher", True)


def test_numbers_that_are_not_there_are_null() -> None:
    (contrast,) = contrasts.section(findings(ledger(GOOD, None))).data["contrasts"]
    assert math.isnan(contrast["mean"]) and contrast["seeds_to_decide"] is None
    assert (contrast["verdict"], contrast["reason"]) == ("undecided", "few_seeds")


def test_the_page_says_what_intervals_speak_of() -> None:
    assert contrasts.SPEAK in str(answer.section(both()).blocks)


def test_many_contrasts_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer, "MOST_CONTRASTS", 1)
    assert answer.answers(both())[1] == "Below: 1 more contrast; of all 2: 2 higher."


def test_a_study_without_contrasts_says_why_nothing_is_tested() -> None:
    study = ledger(GOOD, shifted([16.0, 17.0, 16.5]), contrasts=())
    assert "by default the first method under study" in answer.answers(findings(study))[0]
    spec = {**study.study.spec, "contrasts": []}
    none = dataclasses.replace(study, study=dataclasses.replace(study.study, spec=spec))
    assert "the study file declares none" in answer.answers(findings(none))[0]
    assert contrasts.section(findings(none)).blocks == ()


def test_a_look_at_earlier_settings_is_said_to_be_one() -> None:
    found = dataclasses.replace(result(GOOD, shifted([16.0, 17.0, 16.5])), earlier=True)
    assert contrasts.sentence(found).endswith("chosen before the search went on.")


def figure_of(rows: int) -> Figure:
    verdicts = list(LOOKS)
    return forest(
        [
            ForestRow(f"{at}, 50 tasks", at - 3.0, at - 4.0, at + 1.0, 1.0, verdicts[at % 5], "n")
            for at in range(rows)
        ],
        "difference in points",
    )


@pytest.mark.parametrize("rows", [1, 20])
def test_a_forest_plot_has_a_row_for_each_contrast_against_0_and_its_margin(rows: int) -> None:
    figure = figure_of(rows)
    (axes,) = figure.axes
    assert len(axes.texts) / 2 == len(axes.collections) == rows
    # The line at 0, and for each row the interval and its mean.
    assert len(axes.get_lines()) == 1 + 2 * rows
    low, high = axes.get_xlim()
    assert low < -4 and high > rows
    assert axes.get_ylim() == (rows - 0.5, -0.5)
    assert figure.get_figheight() < 12


def test_a_forest_plot_leaves_out_what_is_no_number() -> None:
    rows = [
        ForestRow("no interval", 3.0, math.nan, math.nan, 1.0, "undecided", ""),
        ForestRow("nothing", math.nan, math.nan, math.nan, 1.0, "undecided", ""),
    ]
    (axes,) = forest(rows, "difference").axes
    assert len(axes.get_lines()) == 2
    assert [text.get_text() for text in axes.texts] == ["no interval", "", "nothing", ""]


def test_a_figure_holds_so_many_contrasts_and_says_what_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def pictures(section: Section) -> list[tuple[str, ...]]:
        return [block.notes for block in section.blocks if isinstance(block, Picture)]

    # What stands beside the answer is not repeated.
    assert (pictures(answer.section(both())), pictures(contrasts.section(both()))) == ([()], [])
    monkeypatch.setattr(contrasts, "MOST_FIRST", 1)
    assert pictures(answer.section(both())) == [("Below: 1 more contrast.",)]
    assert pictures(contrasts.section(both())) == [()]
    monkeypatch.setattr(contrasts, "MOST_DRAWN", 1)
    monkeypatch.setattr(contrasts, "MOST_FIRST", 0)
    assert pictures(contrasts.section(both())) == [
        ("In the table and in report.json: 1 more contrast.",)
    ]


def test_what_lacks_a_result_is_said_once() -> None:
    found = [
        dataclasses.replace(own, name=name, group=name)
        for own, name in (
            (result(GOOD, shifted([16.0, 17.0, 16.5])), "5 tasks"),
            (result(GOOD, None), "10 tasks"),
            (result(None, None), "50 tasks"),
        )
    ]
    first, told = contrasts.sentences(found)
    assert first == contrasts.sentence(found[0])
    missing = f"{A}, 50 tasks; {B}, 10 tasks and {B}, 50 tasks"
    assert told == f"Undecided: 2 of 3 contrasts, since there is no result of {missing}."
    assert contrasts.sentences(found[:2]) == [contrasts.sentence(own) for own in found[:2]]


def test_of_many_contrasts_an_overview_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each opponent of several: the largest difference first, verdicts as they come."""
    found = [
        dataclasses.replace(own, first=name, group="50 tasks")
        for own, name in (
            (result(GOOD, shifted([16.0, 17.0, 16.5])), "near"),
            (result(GOOD, shifted([2.0, -1.0, 1.0])), "even"),
            (result(GOOD, shifted([30.0, 29.0, 31.0])), "far"),
            (result(GOOD, None), "absent"),
            (result(GOOD, shifted([-16.0, -17.0, -16.5])), "below"),
        )
    ]
    found.append(dataclasses.replace(found[0], second="another"))
    assert overview.overview(found) == []
    monkeypatch.setattr(overview, "FEWEST", 5)
    assert overview.overview(found) == [
        f"50 tasks: against {B} in final accuracy, higher: far (+30.0 points) and near (+16.5 "
        "points); undecided: even (+0.7 points); lower: below (−16.5 points)."
    ]


def test_what_all_contrasts_have_in_common_is_said_above_their_figure() -> None:
    def shown(groups: list[str]) -> tuple[str, list[str]]:
        own = result(GOOD, shifted([16.0, 17.0, 16.5]))
        picture = contrasts.first_picture([dataclasses.replace(own, group=name) for name in groups])
        assert picture is not None
        (axes,) = picture.draw().axes
        return picture.title, [text.get_text() for text in axes.texts][::2]

    one, labels = shown(["50 tasks", "50 tasks"])
    assert (one, labels) == (
        "Contrasts of 50 tasks, difference in points",
        [f"{A} minus {B}", f"{A} minus {B}"],
    )
    two, labels = shown(["10 tasks", "50 tasks"])
    assert two == "Contrasts, difference in points"
    assert labels == [f"{A} minus {B}, 10 tasks", f"{A} minus {B}, 50 tasks"]
