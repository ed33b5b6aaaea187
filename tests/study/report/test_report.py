import base64
import csv
import hashlib
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from matplotlib.figure import Figure

from study.ledger import Record
from study.planning.yaml_text import parse
from study.report import page, yaml_text
from study.report.report import trial_table, write_study
from study.report.rewriting import REWRITE_SECONDS
from study.report.section import Paragraph, Picture, Section
from tests.study.histories import study_of
from tests.study.report import ledgers
from tests.study.report.engine_ledgers import several_objectives
from tests.study.report.ledgers import made_up_study

MOST_BYTES = 1_500_000
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
        self.sources: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        links = ("src", "href", "xlink:href")
        self.sources += [value or "" for name, value in attrs if name in links]
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag not in ("meta", "img", "br", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def written(records: list[Record], folder: Path) -> str:
    """The page of a study whose sections and figures can all be made."""
    html = write_study(study_of(records), folder).read_text(encoding="utf-8")
    assert {path.name for path in folder.iterdir()} - {"answer.svg"} == FILES
    assert data_of(folder)["left_out"] == [] and "could not be made" not in html
    return html


def data_of(folder: Path) -> dict[str, object]:
    data: dict[str, object] = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    return data


def small() -> list[Record]:
    return made_up_study(tasks=(3, 4), layers=2)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A report with all its figures drawn, which takes most of the time."""
    folder = tmp_path_factory.mktemp("report")
    return folder, written(small(), folder)


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves figures out."""
    monkeypatch.setattr(page, "_svg", lambda picture, name: "<svg></svg>")
    monkeypatch.setattr(page, "_file", lambda picture: "<svg></svg>")


def test_the_page_is_whole_and_loads_nothing(report: tuple[Path, str]) -> None:
    _, html = report
    tags = Tags()
    tags.feed(html)
    assert tags.open == []
    assert html.count("<svg ") > 10 and len(html) < MOST_BYTES
    assert len({*tags.ids}) == len(tags.ids)
    inside = [source[1:] for source in tags.sources if source.startswith("#")]
    assert inside and {*inside} <= {*tags.ids}
    others = {source for source in tags.sources if not source.startswith("#")}
    assert all(source.startswith("data:image/png;base64,") for source in others)
    assert not re.search(r"https?://", html)
    # Text of the ledger is text.
    assert "&lt;inflora&gt; &amp; sd_lora" in html
    assert "loss is NaN &lt;script&gt;" in html
    # The one script is the page's own, and no other would run.
    (script,) = re.findall("<script>(.*?)</script>", html, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert html.count("<script") == 1 and f"script-src 'sha256-{digest}'" in html


def test_what_is_seen_at_once_is_question_answer_and_picture(report: tuple[Path, str]) -> None:
    first, *_ = report[1].split('<details class="part"')
    places = [first.index(text) for text in ("What do 50 tasks", "3 tasks: inflora is", "<svg ")]
    assert places == sorted(places) and first.count("<svg ") == 1
    # A file of its own too, for a paper and for MLflow.
    assert "</svg>" in (report[0] / "answer.svg").read_text(encoding="utf-8")
    # All else is named there, and opens.
    titles = re.findall(r"<summary><h2>(.*?)</h2>", report[1])
    assert len(titles) > 10
    assert re.findall(r'<li><a href="#[^"]*">(.*?)</a>', first) == titles


@pytest.mark.slow
def test_keys_of_markup_are_keys(tmp_path: Path) -> None:
    """Of metrics and settings, which a ledger of somebody else may call what it wants."""
    odd = "x</title></style><script>document.title='!'</script><svg/onload=\"x\">$\\x$"
    records = made_up_study(("sd_lora",), (3,), (0, 1), layers=1)
    for record in records:
        if record["kind"] == "task":
            metrics = record["metrics"]
            for name in ("", "train/", "lost/", "time/", "memory/", "alpha/", "alpha/task_"):
                metrics[name + odd] = 1.0
            for name in [name for name in metrics if name.startswith("subspace/")]:
                metrics[name + odd] = metrics[name]
        if record["kind"] in ("trial", "winner"):
            record["searched"] = {**record["searched"], odd: odd}
        if record["kind"] == "trial":
            record["params"] = {**record["params"], odd: odd}
    html = written(records, tmp_path)
    assert "&lt;svg/onload=" in html and not re.search("<svg[^ ]", html)
    assert html.count("<script") == 1


@pytest.mark.slow
def test_names_of_markup_and_mathematics_are_names(tmp_path: Path) -> None:
    """In words, tables, titles, and in figures, where $ would begin a formula."""
    keys = [{"data.name": name} for name in (r"<b>$\x$ {{ 7 * 7 }}", "icons")]
    records = made_up_study(("inflora",), (2,), (0, 1), keys=keys, layers=1)
    records[0] |= {"name": "<i>", "commit": "<u>"}
    html = written(records, tmp_path)
    assert not re.search("<(b|i|u)>", html)
    assert r"&lt;b&gt;$\x$ {{ 7 * 7 }}" in html and "<title>&lt;i&gt;</title>" in html
    assert "git checkout &lt;u&gt;" in html


def test_the_tables_can_be_read(report: tuple[Path, str]) -> None:
    def table(name: str) -> list[dict[str, str]]:
        with (report[0] / name).open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    summary, trials, tasks = (table(f"{name}.csv") for name in ("summary", "trials", "tasks"))
    assert [row["method.name"] for row in summary[:3]] == ["inflora", "sd_lora", "sequential"]
    assert float(summary[0]["final_n"]) == 3
    assert len(trials) == 42
    assert {row["status"] for row in trials} == {"completed", "pruned", "failed"}
    assert len(table("free_dimensions.csv")) == 2 * 3 * 2 * (3 + 4)
    assert len(table("comparisons.csv")) == 6
    assert len(tasks) == 3 * 3 * (3 + 4)
    assert float(tasks[0]["test/accuracy"]) == ledgers.accuracy("inflora", 0, 1, 3)
    assert not [name for name in tasks[0] if "layer" in name]
    assert yaml.safe_load((report[0] / "study.yaml").read_text())["seeds"] == [0, 1, 2]


@pytest.mark.parametrize(
    "text",
    [
        *("1e3", "008", "0o17", "-.5", "+.5e1", "1:30", "2020-01-01", "on", "No", "null", "~", "="),
        *(
            "a\x85b",
            "a\u2028{",
            "#a",
            "- a",
            " a ",
            "a: b",
            "a #b",
            "\x1b[1m",
            "é 日 😀",
            "a" * 300,
        ),
    ],
)
def test_a_study_file_that_is_written_is_read_as_it_was(text: str) -> None:
    plain = {"name": text, "grid": {"data.name": [text, 1, 1e-5, 0.1, True, None]}, text: {}}
    assert parse(yaml_text(plain)) == plain


def test_the_table_of_trials_has_reasons_restarts_and_objectives() -> None:
    rows = trial_table(study_of(several_objectives()))
    assert [row["reason"] for row in rows if row["reason"]] == ["diverged", "out_of_memory"]
    assert [row["retries"] for row in rows][:2] == [1, 0]
    assert rows[0]["memory/subspace_bytes"] == 2e5


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("count", [1, 2, 3, 6, 60])
def test_an_unfinished_study_is_reported_and_marked(tmp_path: Path, count: int) -> None:
    html = written(small()[:count], tmp_path)
    assert "incomplete: running" in html and "This study is running." in html
    assert f'data-reload="{REWRITE_SECONDS}"' in html


@pytest.mark.slow
def test_a_single_task_one_seed_and_no_baseline_are_drawn(tmp_path: Path) -> None:
    html = written(made_up_study(("sd_lora",), tasks=(1,), seeds=(0,), layers=1), tmp_path)
    assert "Accuracy over tasks: 1 task<" in html


@pytest.mark.usefixtures("undrawn")
def test_a_report_is_replaced_by_a_later_one(tmp_path: Path) -> None:
    records = made_up_study(("sequential",), tasks=(2,), seeds=(0, 1))
    written(records[:3], tmp_path)
    html = written(records, tmp_path)
    assert ">complete<" in html and 'data-reload="0"' in html and 'http-equiv="refresh' not in html


def test_what_fails_leaves_a_note_in_its_place_and_the_rest_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_figure() -> Figure:
        raise ZeroDivisionError("no\nlines")

    def no_section() -> Section:
        raise KeyError("<rank>")

    blocks = (Paragraph("before"), Picture("A figure", "shows", no_figure), Paragraph("after"))
    made: dict[str, Callable[[], Section | None]] = {
        "First": no_section,
        "Second": lambda: Section("Second", blocks, {"kept": 1}),
        "Third": lambda: Section("Third", (Picture("", "shows", no_figure),)),
        "Nothing": lambda: None,
    }
    files = [
        SimpleNamespace(TITLE=title, section=lambda _, make=make: make())
        for title, make in made.items()
    ]
    monkeypatch.setattr(page, "SECTIONS", files)
    html = write_study(study_of(small()), tmp_path).read_text(encoding="utf-8")
    assert re.findall(r"(?:<h2[^>]*>|<p class=\"\w+\">)(.*?)</", html)[1:] == [
        "First",
        "First could not be made: KeyError: &#39;&lt;rank&gt;&#39;",
        "Second",
        "before",
        "A figure could not be made: ZeroDivisionError: no lines",
        "after",
        "Third",
        "The figure of Third could not be made: ZeroDivisionError: no lines",
    ]
    data = data_of(tmp_path)
    assert data["kept"] == 1
    assert data["left_out"] == [
        {"section": "First", "part": "First", "error": "KeyError: '<rank>'"},
        {"section": "Second", "part": "A figure", "error": "ZeroDivisionError: no lines"},
        {"section": "Third", "part": "The figure of Third", "error": "ZeroDivisionError: no lines"},
    ]
    assert {path.name for path in tmp_path.iterdir()} - {"answer.svg"} == FILES
