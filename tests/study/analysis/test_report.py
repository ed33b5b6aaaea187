import ast
import csv
import json
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml

from study.analysis import figures, gallery, looks, scaling
from study.analysis.records import from_records
from study.analysis.report import write_report
from study.analysis.summary import summarise
from study.ledger import Ledger, Record
from tests.study.analysis import ledgers
from tests.study.analysis.ledgers import made_up_study

FILES = {
    "report.html",
    "report.json",
    "summary.csv",
    "trials.csv",
    "free_dimensions.csv",
    "comparisons.csv",
    "tasks.csv",
    "study.yaml",
}


class Tags(HTMLParser):
    """Checks that tags nest, and collects what a page would load."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.sources: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img", "br", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def written(records: list[Record], folder: Path) -> tuple[Path, str]:
    ledger = Ledger(folder / "ledger.jsonl")
    for record in records:
        ledger.append(record)
    ledger.close()
    path = write_report(folder / "ledger.jsonl", folder / "report")
    return path, path.read_text(encoding="utf-8")


def small(**options: object) -> list[Record]:
    return made_up_study(tasks=(3, 4), layers=2, **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    return written(small(), tmp_path_factory.mktemp("study"))


def test_everything_is_written(report: tuple[Path, str]) -> None:
    path, _ = report
    assert {one.name for one in path.parent.iterdir()} == FILES


def test_the_page_is_whole_and_loads_nothing(report: tuple[Path, str]) -> None:
    _, html = report
    tags = Tags()
    tags.feed(html)
    assert tags.open == []
    assert "script" not in tags.seen
    assert tags.sources
    assert all(one.startswith("data:image/svg+xml;base64,") for one in tags.sources)
    assert not re.search(r"https?://", re.sub(r'src="data:[^"]*"', "", html))


def test_text_from_the_ledger_is_escaped(report: tuple[Path, str]) -> None:
    _, html = report
    assert "&lt;inflora&gt; &amp; sd_lora" in html
    assert "loss is NaN &lt;script&gt;" in html
    assert "<script" not in html


def test_the_page_says_what_was_found(report: tuple[Path, str]) -> None:
    _, html = report
    for text in (
        ">complete<",
        "inflora and sd_lora are better.",
        "Accuracy over tasks: 3 tasks",
        "Accuracy over tasks: 4 tasks",
        "Free dimensions over tasks: 4 tasks",
        "Share of the space that is free: 4 tasks",
        "Accuracy on each task: 3 tasks",
        "Stability against plasticity: 4 tasks",
        "Magnitudes over tasks: 4 tasks",
        "python study/run.py",
        "0123456789abcdef",
        "torch 2.13.0",
        "<details><summary>42 trials</summary>",
    ):
        assert text in html
    assert "Free dimensions over tasks: 3 tasks" not in html


def test_the_numbers_are_in_the_json(report: tuple[Path, str]) -> None:
    path, _ = report
    data = json.loads((path.parent / "report.json").read_text(encoding="utf-8"))
    assert data["status"] == "complete"
    first = data["cells"][0]
    finals = [ledgers.accuracy("inflora", seed, 3, 3) for seed in range(3)]
    assert first["final"]["mean"] == pytest.approx(sum(finals) / 3)
    assert list(first["finals_by_seed"].values()) == pytest.approx(finals)
    assert first["accuracy_over_tasks"]["1"]["n"] == 3
    assert len(first["accuracy_matrix"]) == 3
    assert first["free_dimensions"]["layer_00"]["2"] == ledgers.free_dims("inflora", 0, 2, 3)
    assert len(data["comparisons"]) == 6


def test_the_tables_can_be_read(report: tuple[Path, str]) -> None:
    path, _ = report

    def table(name: str) -> list[dict[str, str]]:
        with (path.parent / name).open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    summary, trials, free = (
        table(name) for name in ("summary.csv", "trials.csv", "free_dimensions.csv")
    )
    assert [one["method.name"] for one in summary[:3]] == ["inflora", "sd_lora", "sequential"]
    assert float(summary[0]["final_n"]) == 3
    assert len(trials) == 42
    assert {one["status"] for one in trials} == {"completed", "pruned", "failed"}
    assert len(free) == 2 * 3 * 2 * (3 + 4)
    assert len(table("comparisons.csv")) == 6
    tasks = table("tasks.csv")
    assert len(tasks) == 3 * 3 * (3 + 4)
    assert float(tasks[0]["test/accuracy"]) == ledgers.accuracy("inflora", 0, 1, 3)
    assert not [name for name in tasks[0] if "layer" in name]
    assert yaml.safe_load((path.parent / "study.yaml").read_text())["seeds"] == [0, 1, 2]


@pytest.mark.parametrize("count", [1, 2, 3, 6, 60])
def test_an_unfinished_study_is_reported_and_marked(tmp_path: Path, count: int) -> None:
    _, html = written(small()[:count], tmp_path)
    assert "incomplete: running" in html
    assert "This study is running." in html


def test_a_single_task_one_seed_and_no_baseline_are_drawn(tmp_path: Path) -> None:
    _, html = written(made_up_study(("sd_lora",), tasks=(1,), seeds=(0,), layers=1), tmp_path)
    assert "Accuracy over tasks: 1 task<" in html


def test_a_report_is_replaced_by_a_later_one(tmp_path: Path) -> None:
    records = made_up_study(("sequential",), tasks=(2,), seeds=(0, 1))
    written(records[:3], tmp_path)
    (tmp_path / "ledger.jsonl").unlink()
    path, html = written(records, tmp_path)
    assert ">complete<" in html
    assert {one.name for one in path.parent.iterdir()} == FILES


def test_the_same_numbers_give_the_same_figure() -> None:
    panels = {"inflora": [[0.9], [0.5, 0.8]]}
    with looks.style():
        one, other = (
            looks.data_uri(figures.matrices(panels, "accuracy, %", "task")) for _ in range(2)
        )
    assert one == other


def test_methods_without_a_subspace_get_no_empty_figures() -> None:
    cells = summarise(from_records(small(methods=("sequential",))))
    titles = [one.title for one in gallery.pictures(cells)]
    assert titles
    assert not [one for one in titles if "ree" in one or "Magnitudes" in one]


def test_lines_can_be_told_apart() -> None:
    found = [str(looks.line_style(index)) for index in range(42)]
    assert len(set(found)) == 42


@pytest.mark.parametrize(("tasks", "expected"), [(1, [1]), (5, [1, 2, 3, 4, 5])])
def test_ticks_of_short_sequences(tasks: int, expected: list[int]) -> None:
    assert looks.ticks(tasks) == expected


@pytest.mark.parametrize("tasks", [7, 20, 49, 50, 51, 322, 1000])
def test_ticks_begin_at_the_first_and_end_at_the_last_task(tasks: int) -> None:
    found = looks.ticks(tasks)
    assert (found[0], found[-1]) == (1, tasks)
    assert len(found) <= 12


def test_the_report_needs_neither_ray_nor_optuna_nor_mlflow_nor_torch() -> None:
    folder = Path(gallery.__file__).parent
    light = {"ledger", "labels", "actual_cost", "session_walls", "fronts"}
    files = [*(folder.parent / f"{name}.py" for name in light), *folder.glob("*.py")]
    # Imported when it is asked for, and done without where there is no Optuna.
    files.remove(folder / "importance_measure.py")
    trees = [ast.parse(one.read_text(encoding="utf-8")) for one in files]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}
    assert "study.analysis.entities" in names
    roots = {name.partition(".")[0] for name in names}
    assert not roots & {"ray", "optuna", "mlflow", "torch"}
    catalog = {
        f"{node.module}.{alias.name}"
        for node in nodes
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("trainables")
        for alias in node.names
    }
    assert catalog == {"trainables.catalog"}
    own = {name for name in names if name.startswith("study.")}
    allowed = {f"study.{name}" for name in light}
    assert all(name in allowed or name.startswith("study.analysis") for name in own)


def test_chance_of_a_cell_with_all_classes_is_its_data_sets() -> None:
    records = made_up_study(methods=("sequential",), tasks=(10,), seeds=(0,))
    records[0]["chance"] = None
    for one in records:
        if one["kind"] == "trial":
            one["params"] |= {"data.name": "gaussian", "data.classes": None}
    (cell,) = summarise(from_records(records))
    assert cell.chance == 1 / 64


def test_a_reference_point_says_in_the_table_what_it_shows(tmp_path: Path) -> None:
    _, html = written(small(methods=("inflora", "joint")), tmp_path)
    assert html.count("<td>joint, 3 tasks *</td>") == 1
    assert "* joint: a reference point, upper bound: trains on the images of all tasks" in html
    assert "<td>inflora, 3 tasks</td>" in html


@pytest.mark.parametrize("length", [5, 20, 40, 60])
def test_a_legend_of_long_names_is_no_wider_than_its_figure(length: int) -> None:
    names = [f"{number} {'x' * length}" for number in range(4)]
    curves = {name: {1: scaling.interval([0.5, 0.6])} for name in names}
    styles = {name: place for place, name in enumerate(names)}
    with looks.style():
        figure = figures.accuracy_over_tasks({"": curves}, styles, 0.01, 10)
        figure.draw_without_rendering()
    (legend,) = figure.legends
    assert legend.get_window_extent().width <= figure.bbox.width


def test_the_number_of_figures_does_not_grow_with_the_study() -> None:
    parts = [
        made_up_study(("sd_lora",), tasks=(2,), seeds=(0,), layers=1, key={"data.name": f"{place}"})
        for place in range(9)
    ]
    records = [parts[0][0], *(one for part in parts for one in part[1:])]
    found = gallery.pictures(summarise(from_records(records)))
    kinds = Counter(one.title.partition(":")[0] for one in found)
    assert set(kinds.values()) == {gallery.MOST_FIGURES}
    assert "Figures of this kind left out: 3" in " ".join(found[5].notes)


def test_many_lines_are_drawn_apart_from_reference_points() -> None:
    names = [f"rank {rank}" for rank in range(9)]
    curves = {name: {1: scaling.interval([0.5, 0.6])} for name in names}
    panels = {"under study": curves, "reference points": {"joint": curves[names[0]]}}
    styles = {name: place for place, name in enumerate([*names, "joint"])}
    with looks.style():
        figure = figures.accuracy_over_tasks(panels, styles, 0.01, 10)
    assert [one.get_title() for one in figure.axes] == ["under study", "reference points"]
