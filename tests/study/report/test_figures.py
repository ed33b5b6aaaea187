import io
import math
import re
import warnings
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from matplotlib.text import Annotation, Text

from study.evidence import Interval, intervals
from study.report.figures import ends, fronts, plots, style, tracked
from study.report.section import Picture, findings
from study.report.sections.answers import gallery
from study.report.sections.answers.pareto import front_pictures, pareto_fronts
from tests.study.histories import study_of
from tests.study.report.engine_ledgers import OBJECTIVE, RANKS, several_objectives
from tests.study.report.ledgers import made_up_study
from tests.study.report.studies import OTHER_DATA

ROWS = [[0.9], [0.8, 0.7]]


def test_what_is_tracked_of_a_trial_leaves_out_what_was_not_measured() -> None:
    assert tracked.accuracy_csv(ROWS) == "after task,task 1,task 2\n1,0.9,\n2,0.8,0.7\n"
    metrics = {
        2: {"subspace/dim_free/layer_00": 3.0, "subspace/dim_free": 3.0},
        1: {"subspace/dim_free/layer_00": 5.0},
    }
    assert tracked.free_dimensions(metrics) == {"layer_00": {1: 5.0, 2: 3.0}}
    assert tracked.free_dimensions({1: {"test/accuracy": 1.0}}) == {}


def test_tracked_figures_can_be_drawn() -> None:
    layers = {"layer_00": {1: 5.0, 2: 3.0}, "layer_01": {1: 4.0}}
    for figure in (
        tracked.accuracy_picture(ROWS, "matrix"),
        tracked.accuracy_picture([[math.nan]], "null"),
        tracked.free_dimensions_picture(layers, 2, "free"),
        tracked.free_dimensions_picture(layers, None, "free"),
    ):
        file = io.BytesIO()
        figure.savefig(file, dpi=20)
        assert file.getvalue().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "name", ["p$x^$q", "日本", "ﬁn", "\U0001f600", "<img src=x>", "long " * 99]
)
def test_a_name_is_drawn_as_it_is_and_warns_nobody(name: str) -> None:
    layers = {name: {1: 5.0, 2: 3.0}}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = tracked.free_dimensions_picture(layers, 2, name)
        svg = style.inline(figure)
    assert svg.startswith("<svg") and "<img" not in svg


@pytest.mark.parametrize(
    ("name", "drawn"), [("p$x^$q", "p$x^$q"), (r"$\x$", r"$\x$"), ("日 ﬁn", "<U+65E5> ﬁn")]
)
@pytest.mark.parametrize("kind", ["matrix", "layers", "front"])
def test_a_tracked_picture_is_saved_with_its_name(kind: str, name: str, drawn: str) -> None:
    """By MLflow, without this project's style."""
    if kind == "matrix":
        figure = tracked.accuracy_picture(ROWS, name)
    elif kind == "layers":
        figure = tracked.free_dimensions_picture({"a": {1: 5.0}}, 2, name)
    else:
        values = {"val/accuracy": 0.8, "memory/subspace_bytes": 1e6}
        figure = tracked.front_picture(OBJECTIVE, [values], {1: values}, name)
    assert drawn in [text.get_text() for text in figure.findobj(Text)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.savefig(io.BytesIO(), dpi=20)


def test_a_front_has_objectives_of_the_search_and_accuracy_of_the_confirmations() -> None:
    known = findings(study_of(several_objectives()))
    (front,) = pareto_fronts(known.study, known.cells)
    best = front.points[0]
    assert best.values == pytest.approx({"val/accuracy": 0.66, "memory/subspace_bytes": 8e5})
    assert (best.final.mean, best.final.n) == (pytest.approx(0.64), 3)
    assert best.final.std == pytest.approx(0.01)
    assert best.held_bytes == pytest.approx(8e5 + 1e6)
    assert best.peak_bytes == 2e9
    assert best.seconds == pytest.approx(8.0)
    # Pruned and failed trials have no value at the end of the search.
    assert len(front.tried) == len(RANKS)


def test_a_cell_tuned_elsewhere_gets_no_picture_of_its_own() -> None:
    records = several_objectives()
    home = next(record for record in records if record["kind"] == "cell")
    away = {**home, "cell": "away", "key": {**home["key"], "data.name": "x"}}
    known = findings(study_of([*records, {**away, "tuned_in": home["cell"]}]))
    assert len(pareto_fronts(known.study, known.cells)) == 2
    assert len(front_pictures(known)) == 1


def test_the_front_has_all_settings_and_a_line_through_the_best() -> None:
    tried = [{"val/accuracy": 0.5 + 0.1 * n, "memory/subspace_bytes": 1e6 * n} for n in (1, 2, 3)]
    front = {1: tried[2], 2: tried[0]}
    (axes,) = fronts.front_picture(OBJECTIVE, tried, front, "title").axes
    points, steps, marks = axes.get_lines()
    assert points.get_xdata() == pytest.approx([1, 2, 3])
    assert points.get_ydata() == pytest.approx([60, 70, 80])
    # From the least memory on: up to the next setting, the one before is the best there is.
    assert steps.get_drawstyle() == "steps-post"
    assert np.asarray(steps.get_xdata()).tolist() == pytest.approx([1, 3])
    assert np.asarray(marks.get_xdata()).tolist() == pytest.approx([3, 1])
    assert [text.get_text() for text in axes.texts] == ["1", "2"]
    assert axes.get_xlabel() == "memory/subspace_bytes, MB (less is better)"
    assert axes.get_ylabel() == "val/accuracy, % (more is better)"


def test_where_more_of_both_is_better_the_line_begins_at_the_most() -> None:
    objective = {"val/accuracy": "max", "time/images_per_second": "max"}
    points = enumerate(((0.8, 100.0), (0.6, 300.0)), start=1)
    front = {number: dict(zip(objective, values, strict=True)) for number, values in points}
    (axes,) = fronts.front_picture(objective, [], front, "").axes
    assert np.asarray(axes.get_lines()[1].get_xdata()).tolist() == [300, 100]


def test_three_objectives_are_two_panels_without_a_line() -> None:
    objective = {**OBJECTIVE, "val/forgetting": "min"}
    values = {"val/accuracy": 0.8, "memory/subspace_bytes": 1e6, "val/forgetting": 0.1}
    figure = fronts.front_picture(objective, [values], {1: values}, "")
    assert [len(axes.get_lines()) for axes in figure.axes] == [2, 2]
    assert figure.axes[1].get_xlabel() == "val/forgetting, points (less is better)"


def test_plasticity_stands_over_forgetting() -> None:
    forgetting, plasticity = intervals.interval([0.1, 0.3]), intervals.interval([0.7, 0.9])
    points = {"a": (forgetting, plasticity)}
    (axes,) = plots.plasticity_against_forgetting(points, {"a": 0}).axes
    line = axes.containers[0].lines[0]  # type: ignore[attr-defined]
    assert list(line.get_xdata()) == [pytest.approx(20.0)]
    assert list(line.get_ydata()) == [pytest.approx(80.0)]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("forgetting, points", "plasticity, %")


def test_the_same_numbers_give_the_same_figure() -> None:
    panels = {"inflora": [[0.9], [0.5, 0.8]]}
    with style.style():
        first, again = (
            style.inline(plots.matrices(panels, "accuracy, %", "task")) for _ in range(2)
        )
    assert first == again
    ids = re.compile(r'\bid="([^"]*)"')
    with style.style():
        other = style.inline(plots.matrices(panels, "accuracy, %", "task"), "another")
    assert ids.findall(first) and not {*ids.findall(first)} & {*ids.findall(other)}


def test_a_line_tells_its_name_where_it_ends_and_under_the_mouse() -> None:
    name = "<b> 0.00012345_7"
    lines = {name: {1: 0.9, 2: 0.7}, "other": {1: 0.9, 2: 0.3}}
    panels = {
        key: {at: intervals.interval([x, x + 0.1]) for at, x in own.items()}
        for key, own in lines.items()
    }
    with style.style():
        figure = plots.accuracy_over_tasks({"": panels}, {name: 0, "other": 1}, None, 2)
        svg = style.inline(figure)
    (axes,) = figure.axes
    named = {text.get_text(): text.xy for text in axes.texts if isinstance(text, Annotation)}
    assert named == {name: (2.0, pytest.approx(75.0)), "other": (2.0, pytest.approx(35.0))}
    assert not figure.legends
    # The line and its band, and the word itself.
    escaped = "&lt;b&gt; 0.00012345_7"
    assert svg.count(f"<title>{escaped}</title>") == 2 and f">{escaped}</text>" in svg


def test_names_that_would_not_tell_whose_they_are_stand_in_a_legend() -> None:
    layers = {f"layer_{at:02d}": {1: 9.0 - at, 2: 0.0} for at in range(4)}
    figure = plots.free_dimensions([plots.Panel("empty", layers, 2)])
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == list(layers)


@pytest.mark.parametrize(
    ("wanted", "places"),
    [([1, 50], [1, 50]), ([48, 50, 52], [40, 50, 60]), ([0, 1], [0, 10]), ([99, 100], [90, 100])],
)
def test_places_are_spread_as_little_as_may_be(
    wanted: Sequence[float], places: Sequence[float]
) -> None:
    assert ends.spread(wanted, 10, 100) == pytest.approx(places)


def pictures(*cells: Any, **options: Any) -> list[Picture]:
    """Those of a made-up study."""
    return gallery.pictures(findings(study_of(made_up_study(*cells, **options))))


def test_methods_without_a_subspace_get_no_empty_figures() -> None:
    titles = [picture.title for picture in pictures(("sequential",), (3, 4), layers=2)]
    assert titles
    assert not [title for title in titles if "ree" in title or "Magnitudes" in title]


def test_more_tasks_of_other_data_are_no_line() -> None:
    titles = [picture.title for picture in pictures(("inflora",), keys=OTHER_DATA, layers=1)]
    assert "Final accuracy against the number of tasks" not in titles


def test_the_number_of_figures_does_not_grow_with_the_study() -> None:
    keys = [{"data.name": f"{place}"} for place in range(9)]
    drawn = pictures(("sd_lora",), (2,), (0,), layers=1, keys=keys)
    kinds = Counter(picture.title.partition(":")[0] for picture in drawn)
    assert set(kinds.values()) == {gallery.MOST_FIGURES}
    assert "Figures of this kind left out: 3" in " ".join(drawn[5].notes)


def test_many_cells_in_one_figure_are_the_best_ones() -> None:
    keys = [{"optim.lr": rate} for rate in range(2 * gallery.MOST_PANELS + 1)]
    first, *_ = pictures(("inflora",), (1,), (0,), layers=0, keys=keys)
    assert first.notes == ("The 24 cells of highest final accuracy of 25; all are in tasks.csv.",)


def curves(names: Sequence[str]) -> dict[str, dict[int, Interval]]:
    return {name: {1: intervals.interval([0.5, 0.6])} for name in names}


def test_many_lines_are_drawn_apart_from_reference_points() -> None:
    names = [f"rank {rank}" for rank in range(9)]
    panels = {"under study": curves(names), "reference points": curves(["joint"])}
    styles = {name: place for place, name in enumerate([*names, "joint"])}
    figure = plots.accuracy_over_tasks(panels, styles, 0.01, 10)
    assert [axes.get_title() for axes in figure.axes] == ["under study", "reference points"]


@pytest.mark.parametrize("length", [5, 20, 40, 60])
def test_names_of_any_length_stay_inside_their_figure(length: int) -> None:
    names = [f"{number} {'x' * length}" for number in range(4)]
    styles = {name: place for place, name in enumerate(names)}
    with style.style():
        figure = plots.accuracy_over_tasks({"": curves(names)}, styles, 0.01, 10)
        figure.draw_without_rendering()
    texts = [*figure.legends, *figure.axes[0].texts]
    assert texts and all(text.get_window_extent().x1 <= figure.bbox.x1 for text in texts)


def test_a_grid_has_no_axes_to_spare() -> None:
    figure, grid = plots.grid_of(3, across=2, height=1.0)
    assert len(grid) == len(figure.axes) == 3


def test_lines_can_be_told_apart() -> None:
    assert len({str(style.line_style(index)) for index in range(42)}) == 42


@pytest.mark.parametrize("tasks", [1, 5, 7, 20, 49, 50, 51, 322, 1000])
def test_ticks_begin_at_the_first_and_end_at_the_last_task(tasks: int) -> None:
    ticks = style.ticks(tasks)
    assert (ticks[0], ticks[-1]) == (1, tasks)
    assert len(ticks) <= 12
    assert tasks > 5 or ticks == [*range(1, tasks + 1)]
