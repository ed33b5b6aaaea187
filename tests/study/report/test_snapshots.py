"""What reports of made-up studies say, word by word and number by number.

The files in `snapshots/` are compared exactly. After a change that means to change them, write them
anew with `SNAPSHOTS=write python -m pytest tests/study/report/test_snapshots.py`, and look at the
difference before it is committed. Figures are left out: their titles, captions and notes are there.
"""

import json
import os
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from study.report import page
from study.report.report import write_study
from study.report.section import findings
from study.report.sections.answers.answer import answers
from study.report.sections.answers.described import description
from study.report.sections.answers.health_checks import warnings
from study.report.sections.answers.tuning import method_lines
from tests.study.histories import study_of
from tests.study.report.engine_ledgers import PRUNER, SEARCH, Script
from tests.study.report.studies import ANSWERS, REPORTS

SNAPSHOTS = Path(__file__).with_name("snapshots")
WIDTH = 160
STARTS = {"h1": "# ", "h2": "\n## ", "h3": "### ", "li": "- "}
BLOCKS = {*STARTS, "p", "tr", "pre", "summary", "figcaption", "table"}
DIGITS = 4
"""Of numbers: further ones differ between processors."""
WEIGHED = {**PRUNER, "criterion": "accuracy_minus_forgetting", "forgetting_weight": 0.5}
SPECS: dict[str, dict[str, Any]] = {
    "whole stream, two objectives": {},
    "first tasks, compared": {
        "search": {**SEARCH, "protocol": "first_k_tasks", "first_tasks": 3, "compare": True}
    },
    "transfer": {
        "search": {**SEARCH, "protocol": "transfer", "confirm_on": [{"data.name": "cub"}]}
    },
    "class orders alone": {"search": {**SEARCH, "protocol": "transfer"}},
    "one objective, weighed": {"objective": {"val/accuracy": "max"}, "pruner": WEIGHED},
    "no pruner, no budget": {"pruner": {"kind": "none"}, "budget": {}},
    "warm start": {"search": {**SEARCH, "warm_start": "an earlier one"}},
    "nothing searched": {},
    "nothing searched, transfer": {"search": {**SEARCH, "protocol": "transfer"}},
    "nothing searched, no seeds": {"seeds": None},
    "old ledger": {"search": "all"},
    "old ledger, a space": {"search": {"inflora": {"method.rank": None}}},
}


class Words(HTMLParser):
    """The text of a page, a line for each block, entries of a table row apart."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self._hidden = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._hidden = tag in ("style", "script")
        if tag in BLOCKS:
            self.lines.append(STARTS.get(tag, ""))
        elif tag in ("td", "th"):
            self.lines[-1] += "| "

    def handle_data(self, data: str) -> None:
        if not self._hidden and self.lines:
            self.lines[-1] += re.sub(r"\s+", " ", data)

    @property
    def text(self) -> str:
        """All of it."""
        return "\n".join(line.rstrip() for line in self.lines if line.strip(" ")) + "\n"


def rounded(value: Any) -> Any:
    """The same with numbers cut to what every machine agrees on."""
    if isinstance(value, dict):
        return {key: rounded(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [rounded(entry) for entry in value]
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if abs(value) > 1e-9 else 0.0
    return value


def laid_out(value: Any, indent: int = 0) -> str:
    """JSON in which whatever fits stands in one line."""
    line = json.dumps(value, ensure_ascii=False)
    if len(line) + indent <= WIDTH or not isinstance(value, dict | list):
        return line
    inner = " " * (indent + 1)
    if isinstance(value, dict):
        entries = [f"{json.dumps(key)}: {laid_out(own, indent + 1)}" for key, own in value.items()]
    else:
        entries = [laid_out(entry, indent + 1) for entry in value]
    begin, end = "{}" if isinstance(value, dict) else "[]"
    return f"{begin}\n{inner}" + f",\n{inner}".join(entries) + f"\n{' ' * indent}{end}"


def check(name: str, text: str) -> None:
    """Compares with the file of that name, or writes it."""
    path = SNAPSHOTS / name
    if os.environ.get("SNAPSHOTS") == "write":
        path.write_text(text, encoding="utf-8")
    assert text.splitlines() == path.read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("name", REPORTS)
def test_the_report_of(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "_svg", lambda picture, name: "<svg></svg>")
    path = write_study(study_of(REPORTS[name]()), tmp_path)
    data = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert data["left_out"] == []
    words = Words()
    words.feed(path.read_text(encoding="utf-8"))
    check(f"{name}.txt", words.text)
    check(f"{name}.json", laid_out(rounded(data)) + "\n")


@pytest.mark.slow
def test_short_answers_and_warnings() -> None:
    told = {}
    for name, records in ANSWERS.items():
        found = findings(study_of(records()))
        told[name] = {
            "answer": answers(found),
            "described": description(found),
            "warnings": warnings(found),
        }
    check("answers.json", laid_out(told) + "\n")


def test_how_settings_were_chosen() -> None:
    told = {}
    for name, spec in SPECS.items():
        script = Script()
        script.open(**spec)
        script.cell({"method.name": "inflora"})
        if name.startswith("nothing searched"):
            script.records[-1]["search"] = {}
        told[name] = method_lines(study_of(script.records))
    check("tuning.json", laid_out(told) + "\n")
