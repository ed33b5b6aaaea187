"""What a section of the page is made from, the findings, and made of: words, tables, figures."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from study.analysis.contrasts import ContrastResult, Later, contrasts_of
from study.analysis.summary import CellSummary, Standing, compare_methods, standings, summarise
from study.evidence import Comparison
from study.ledger import StudyRecords

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_CELLS = 12
"""Cells that are looked at one by one: those with the most tasks, methods under study first."""


@dataclass(frozen=True)
class Findings:
    """A study's records, each cell's summary, what the contrasts came to, and what is described.

    Described, not tested, are the differences of all pairs and the best of each group.
    """

    study: StudyRecords
    cells: tuple[CellSummary, ...]
    contrasts: tuple[ContrastResult, ...]
    comparisons: tuple[Comparison, ...]
    standings: tuple[Standing, ...]

    @property
    def until_decided(self) -> bool:
        """Whether seeds were spent until the contrasts were decided."""
        return isinstance(self.study.study.spec.get("seeds"), Mapping)

    @property
    def confirmed(self) -> tuple[CellSummary, ...]:
        """The cells with a confirmation, in the order of the tables."""
        return tuple(cell for cell in self.cells if cell.confirmed)

    @property
    def by_length(self) -> tuple[CellSummary, ...]:
        """The same: methods under study before reference points, then those with more tasks."""
        return tuple(
            sorted(self.confirmed, key=lambda cell: (bool(cell.reference), -(cell.tasks or 0)))
        )

    @property
    def looked_at(self) -> tuple[CellSummary, ...]:
        """The cells that are looked at one by one, in the order of the tables."""
        chosen = {cell.cell for cell in self.by_length[:MOST_CELLS]}
        return tuple(cell for cell in self.confirmed if cell.cell in chosen)


def findings(study: StudyRecords, later: Later | None = None) -> Findings:
    """Works out what all sections share; `later` are contrasts declared after the data."""
    cells = summarise(study)
    return Findings(
        study,
        tuple(cells),
        contrasts_of(study, later),
        tuple(compare_methods(cells)),
        tuple(standings(cells)),
    )


@dataclass(frozen=True)
class Heading:
    """The title of a part of a section."""

    text: str


@dataclass(frozen=True)
class Paragraph:
    """Small print about what follows."""

    text: str


@dataclass(frozen=True)
class Bullets:
    """Sentences one below the other, in a box of the style sheet's class `box`, if any."""

    sentences: Sequence[str]
    box: str = ""


@dataclass(frozen=True)
class Table:
    """Rows with the keys of the first as headings; columns of `numbers` are set to the right."""

    rows: Sequence[Mapping[str, str]]
    numbers: Collection[str] = ()


@dataclass(frozen=True)
class Code:
    """Lines to copy."""

    text: str


@dataclass(frozen=True)
class Folded:
    """A block that opens by a click on its title."""

    title: str
    block: Table | Code


@dataclass(frozen=True)
class Picture:
    """A figure to be drawn: `notes` are read beside it, `title` may be empty.

    `draw` is called once, in the look of `figures.style`, when the page is made: one that fails
    costs the page nothing else.
    """

    title: str
    caption: str
    draw: "Callable[[], Figure]"
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Drawn:
    """A figure as an SVG element."""

    title: str
    caption: str
    svg: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Failure:
    """Stands where a section or a figure could not be made: its title, and why in one line."""

    title: str
    reason: str


Block: TypeAlias = Heading | Paragraph | Bullets | Table | Code | Folded | Picture | Drawn | Failure


@dataclass(frozen=True)
class Section:
    """A part of the page under its title.

    Without blocks there is nothing of it on the page, and `data` is in report.json all the same:
    dataclasses, mappings, sequences, numbers and text, by key. Where several sections have one
    key, their mappings are joined.
    """

    title: str
    blocks: tuple[Block, ...]
    data: Mapping[str, Any] = field(default_factory=dict)
