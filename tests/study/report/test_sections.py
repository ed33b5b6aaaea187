"""What sections show and leave out; what they say is in the snapshots."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest

from study.analysis.exhaustion import LayerForecast, Observed
from study.ledger import Record, records
from study.report import page, wording
from study.report.section import MOST_CELLS, Findings, Folded, Picture, Section, Table, findings
from study.report.sections.answers import (
    answer,
    comparisons,
    described,
    health_checks,
    losses,
    published,
    results,
)
from study.report.sections.cost import failures, memory, trials
from study.report.sections.settings import exhaustion, importance, interference, rank, scaling
from tests.study.histories import study_of
from tests.study.report.engine_ledgers import Script
from tests.study.report.ledgers import made_up_study
from tests.study.report.studies import REPORTS, SAME, of_ranks, read_out, with_finals


def found(records: list[Record]) -> Findings:
    return findings(study_of(records))


def last_table(section: Section) -> Sequence[Mapping[str, str]]:
    """The rows of its last table, which may be folded away or stand before small print."""
    blocks = [own.block if isinstance(own, Folded) else own for own in section.blocks]
    *_, table = (block for block in blocks if isinstance(block, Table))
    return table.rows


def test_a_study_without_confirmations_shows_nothing_that_needs_them() -> None:
    known = found(made_up_study(seeds=(), tasks=(3,)))
    made = [file.section(known) for file in page.SECTIONS]
    titles = {section.title for section in made if section is not None and section.blocks}
    assert titles == {
        "Short answer",
        "Declared contrasts",
        "Warnings",
        "Method",
        "Results",
        "All pairs of cells",
        "Trials that failed or were started again",
        "How to reproduce",
        "All trials",
    }


def test_warnings_of_the_data_are_among_the_first() -> None:
    leaking = [*made_up_study(("inflora",), (2,), (0,)), records.warning("It leaks.")]
    known = found([{"time": 0.0, **record} for record in leaking])
    assert health_checks.section(known).data["warnings"][0] == "It leaks."


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("method.vote", "batch", "with method.vote batch: "),
        ("method.reshape_leak", True, "with method.reshape_leak true: "),
        ("method.vote", "image", None),
        ("method.reshape_leak", False, None),
    ],
)
def test_scores_that_depend_on_a_batch_are_warned_of(
    key: str, value: object, text: str | None
) -> None:
    known = found(made_up_study(("sequential",), (2,), (0, 1), keys=[{key: value}]))
    said = [line for line in health_checks.warnings(known) if "depend on the other images" in line]
    assert len(said) == (text is not None)
    assert all(text in line and "sequential" in line for line in said if text)


def test_the_cells_that_are_looked_at_one_by_one_are_bounded() -> None:
    keys = [{"data.name": f"{place}"} for place in range(MOST_CELLS + 2)]
    known = found(made_up_study(("inflora",), (2,), (0,), layers=1, keys=keys))
    curves = scaling.section(known).data["deeper"]
    assert (curves["cells"], curves["looked_at"]) == (MOST_CELLS + 2, MOST_CELLS)
    assert len(curves["curves"]) == MOST_CELLS
    assert len(exhaustion.section(known).data["deeper"]["space"]) == MOST_CELLS


def test_curves_are_continued_beyond_the_tasks_that_were_run() -> None:
    lengths = found(made_up_study(("sequential",), (5, 10, 20, 40), ripple=0.0, layers=0))
    (picture, *_) = [own for own in scaling.section(lengths).blocks if isinstance(own, Picture)]
    (axes,) = picture.draw().axes
    assert max(float(np.max(line.get_xdata())) for line in axes.get_lines()) == 80
    assert axes.get_ylim()[0] >= 0


@pytest.mark.parametrize(
    ("file", "study", "axes"),
    [
        (exhaustion, "ranks", [2]),
        (rank, "ranks", [1, 1]),
        (interference, "ranks", [1, 1, 1]),
        (memory, "ranks", [2]),
        (importance, "transfer", [2]),
    ],
)
def test_a_section_draws_its_cells(file: page.SectionFile, study: str, axes: list[int]) -> None:
    section = file.section(found(REPORTS[study]()))
    assert section is not None
    figures = [block.draw() for block in section.blocks if isinstance(block, Picture)]
    assert [len(figure.axes) for figure in figures] == axes


def test_many_groups_are_told_apart_in_a_table() -> None:
    rows = last_table(described.section(found(of_ranks((4, 8), (2, 3, 4, 5)))))
    assert [row["highest"] for row in rows] == ["rank 8"] * 4


def test_where_accuracy_is_lost_is_told_of_the_cells_that_are_compared() -> None:
    methods = ("inflora", "sd_lora", "sequential", "joint")
    with_joint = found(read_out(made_up_study(methods, (10,), layers=0)))
    first, second = losses.sentences(with_joint)
    assert first == (
        "inflora, 10 tasks loses 22.0 points against joint training, 2.0 in its features and 20.0 "
        "in its heads; not being told the task costs 30.0."
    )
    assert second.startswith("sequential, 10 tasks loses 44.9 points against joint training, 24.9")
    assert answer.answers(with_joint)[-2:] == [first, second]
    table = last_table(losses.section(with_joint))
    assert [row["in the features, points"] for row in table] == [
        "2.0 ± 0.2 (n = 3)",
        "−4.0 ± 0.3 (n = 3)",
        "24.9 ± 0.6 (n = 3)",
        wording.DASH,
    ]
    alone = found(read_out(made_up_study(methods[:3], (10,), layers=0)))
    assert losses.sentences(alone)[0] == (
        "inflora, 10 tasks tells 62.0 % of the images rightly, 92.0 % when told their task, and "
        "82.0 % with one read-out of all classes that is fitted to its features."
    )
    higher = found(read_out(made_up_study(methods, (10,), layers=0), 0.3))
    assert "−8.0 in its features and 30.0 in its heads (below 0: gained)" in str(
        losses.sentences(higher)
    )
    none = found(made_up_study(methods, (10,), layers=0))
    assert losses.sentences(none) == [] and losses.section(none).blocks == ()


def test_what_is_the_same_on_every_seed_is_called_identical() -> None:
    finals = {(name, 3): SAME for name in ("inflora", "sd_lora")}
    (row,) = last_table(comparisons.section(found(with_finals(finals))))
    assert row["95 % interval"] == "identical"


def test_large_tables_are_cut_and_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    known = found(made_up_study(("inflora", "sd_lora", "sequential"), (2,), layers=0))
    for module, limit in (
        (results, "MOST_CELLS"),
        (trials, "MOST_TRIALS"),
        (comparisons, "MOST_PAIRS"),
        (comparisons, "MOST_ROWS"),
    ):
        monkeypatch.setattr(module, limit, 2)
    cells, every, pairs = (file.section(known) for file in (results, trials, comparisons))
    assert [len(last_table(section)) for section in (cells, every, pairs)] == [2, 2, 2]
    assert "The first 2 of 3 cells; all are in summary.csv." in str(cells.blocks[0])
    for section, title in (
        (every, "The first 2 of 21 trials; all are in trials.csv"),
        (pairs, "3 pairs; all are in comparisons.csv"),
    ):
        assert isinstance(folded := section.blocks[-1], Folded) and folded.title == title
    assert wording.cut_note(wording.MOST_ROWS) == ""
    assert wording.cut_note(61) == " The first 60 of 61 are shown; all are in report.json."


def test_of_many_failures_the_rest_is_counted() -> None:
    script = Script()
    script.open()
    cell = script.cell({"method.name": "inflora"})
    for number in range(25):
        lost = {"status": "failed", "error": "loss is NaN", "reason": "diverged"}
        script.end(script.trial(cell, "search", number, 0.1, tasks=1), **lost)
    section = failures.section(found(script.records))
    assert "The first 10 are listed; 15 more in trials.csv." in section.data["failures"]["summary"]
    assert len(last_table(section)) == 10


def test_published_numbers_of_what_was_not_measured_yet() -> None:
    records = made_up_study(("inflora", "sequential"), (3,), layers=0)
    records[1]["published"] = [{"label": "InfLoRA", "source": "the paper"}]
    (row,) = last_table(published.section(found(records)))
    assert (row["published, %"], row["points"]) == (wording.DASH, wording.DASH)
    under_way = [record for record in records[:2] if record["kind"] != "finished"]
    assert len(published.section(found(under_way)).blocks) == 2
    lost = [record for record in records if record["kind"] in ("study", "cell", "finished")]
    assert published.section(found(lost)).blocks == ()


def test_what_a_forecast_says() -> None:
    seen = (Observed(0, 34), Observed(1, 36), Observed(2, None))
    layer = LayerForecast("l0", 8, 20, 40, "at a rate", 34, 33, 35, 400, seen, "mixed", False)
    happened = "2 of 3 trials ran out within 40 tasks (after task 34 to 36)"
    assert exhaustion.forecast_text(layer) == (
        "l0: at a rate, fewer than 8 free dimensions after task 34 (95 % interval for one trial: "
        f"from after task 33 to after task 35); {happened}: mixed."
    )
    far = replace(layer, high=None, extrapolated=True, rising=True, observed=seen[2:])
    assert exhaustion.forecast_text(far).endswith(
        "to not within 400 tasks, extrapolated; the threshold changes with the task, which no "
        "forecast knows); 0 of 1 trial ran out within 40 tasks: mixed."
    )
    none = replace(layer, reason="2 seeds", verdict="no forecast")
    assert exhaustion.forecast_text(none) == f"l0: no forecast, 2 seeds; {happened}."


@pytest.mark.parametrize(
    ("metric", "value", "expected"),
    [
        ("val/accuracy", 0.612, "61.2"),
        ("val/forgetting", 0.1, "10.0"),
        ("memory/subspace_bytes", 2.5e6, "2.5"),
        ("time/train_seconds", 12.34, "12.34"),
        ("time/images_per_second", 900.0, "900"),
        ("val/accuracy", None, wording.DASH),
    ],
)
def test_metrics_are_shown_in_their_units(metric: str, value: float | None, expected: str) -> None:
    assert wording.text(metric, value) == expected


def test_numbers_are_written_for_people() -> None:
    assert [wording.percent(share) for share in (0.1234, -0.5, -0.0001)] == ["12.3", "−50.0", "0.0"]
    assert wording.percent(math.nan) == wording.percent(None) == wording.DASH
    assert wording.number(math.nan) == wording.DASH
    assert wording.p_text(1e-9) == "< 0.0001"
    assert wording.listed(["a, b", "c", "d"], 2) == "a, b; c and 1 more"
    assert [wording.duration(seconds) for seconds in (59.6, 558, 7200)] == [
        "1 min",
        "9 min 18 s",
        "2 h",
    ]
