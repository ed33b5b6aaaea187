"""The report as one HTML page that needs nothing else: no network, no other file."""

import base64
import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Protocol, TypeVar

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from study.ledger import StudyRecords
from study.report.figures.style import alone, inline, style
from study.report.rewriting import REWRITE_SECONDS
from study.report.section import Block, Drawn, Failure, Findings, Picture, Section
from study.report.sections.answers import (
    answer,
    comparisons,
    contrasts,
    described,
    gallery,
    health_checks,
    losses,
    missing,
    pareto,
    protocols,
    published,
    results,
    tuning,
)
from study.report.sections.cost import cost, estimate, failures, memory, reproduce, trials
from study.report.sections.settings import exhaustion, importance, interference, rank, scaling
from study.report.wording import duration, moment

T = TypeVar("T")


class SectionFile(Protocol):
    """A file of `sections/`: it says in `section` what a study has to show under its `TITLE`."""

    TITLE: str

    def section(self, findings: Findings) -> Section | None:
        """The section; None where the study has nothing for it, report.json included."""


SECTIONS: Sequence[SectionFile] = (
    answer,
    described,
    contrasts,
    losses,
    missing,
    health_checks,
    tuning,
    results,
    comparisons,
    published,
    protocols,
    pareto,
    scaling,
    exhaustion,
    rank,
    importance,
    memory,
    interference,
    cost,
    gallery,
    failures,
    estimate,
    reproduce,
    trials,
)
"""All sections, in their order on the page: a new one is a file and a line here.

The first is what a reader sees at once; the others are folded.
"""


def sections(findings: Findings) -> list[Section]:
    """All that a study has something for, with their figures drawn.

    A `Failure` stands in the place of a section or a figure that could not be made.
    """
    made = (_section(file, findings) for file in SECTIONS)
    return [section for section in made if section is not None]


def answer_picture(findings: Findings) -> str | None:
    """The picture of the answer as an SVG file; None where there is none, or it cannot be drawn."""
    picture = answer.picture(findings)
    file = None if picture is None else _attempt(answer.TITLE, lambda: _file(picture))
    return file if isinstance(file, str) else None


def page(study: StudyRecords, sections: Sequence[Section]) -> str:
    """The whole page; the template escapes all text.

    That of a study that runs loads itself again, as long as somebody rewrites it.
    """
    template = _template()
    script = (Path(__file__).parent / "report.js").read_text(encoding="utf-8")
    running = study.status == "running"
    return template.render(
        study=study.study,
        status=study.status,
        progress=_progress(study),
        first=sections[0] if sections else None,
        sections=[section for section in sections[1:] if section.blocks],
        warnings=_warnings(sections),
        reload=REWRITE_SECONDS if running else 0,
        written=round(time.time()) if running else 0,
        written_at=moment(time.time()) if running else "",
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _warnings(sections: Sequence[Section]) -> int:
    """How many things a reader should know before believing the page."""
    return next((len(own.data["warnings"]) for own in sections if "warnings" in own.data), 0)


def _section(file: SectionFile, findings: Findings) -> Section | None:
    section = _attempt(file.TITLE, lambda: file.section(findings))
    if isinstance(section, Failure):
        return Section(file.TITLE, (section,))
    if section is None:
        return None
    return replace(section, blocks=tuple(_drawn(block, file.TITLE) for block in section.blocks))


def _drawn(block: Block, title: str) -> Block:
    """The block itself, or its figure as the page shows it."""
    if not isinstance(block, Picture):
        return block
    name = block.title or f"The figure of {title}"
    svg = _attempt(name, lambda: _svg(block, f"{title}: {name}"))
    if isinstance(svg, Failure):
        return svg
    return Drawn(block.title, block.caption, svg, block.notes)


def _svg(picture: Picture, name: str) -> str:
    with style():
        return inline(picture.draw(), name)


def _file(picture: Picture) -> str:
    with style():
        return alone(picture.draw())


def _attempt(title: str, make: Callable[[], T]) -> T | Failure:
    """What `make` returns, or why it could not: then the reader lacks one part, not the report."""
    try:
        return make()
    except Exception as error:  # noqa: BLE001 — sections and figures may be wrong in any way
        message = " ".join(str(error).split())
        return Failure(title, f"{type(error).__name__}: {message}")


def _progress(study: StudyRecords) -> str:
    """How much there is of a study, and how long it took."""
    counts = f"{len(study.cells)} cells, {len(study.trials)} trials"
    wall = "" if study.wall_seconds is None else f", {duration(study.wall_seconds)} wall time"
    if len(study.sessions) > 1:
        wall += f" in {len(study.sessions)} sessions"
    if study.last_time is not None:
        wall += f"; last record of {moment(study.last_time)}"
    return counts + wall


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["kind"] = lambda block: type(block).__name__.lower()
    return environment.get_template("report.html.j2")
