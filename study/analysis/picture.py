"""A figure of the page, with the words around it."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from matplotlib.figure import Figure

from study.analysis import looks
from study.analysis.markup import bullets


@dataclass(frozen=True)
class Picture:
    """A figure as a data URI, with its heading, what it shows, and notes to read beside it."""

    title: str
    caption: str
    uri: str
    notes: tuple[str, ...] = ()


def picture(title: str, caption: str, figure: Figure, notes: Sequence[str] = ()) -> Picture:
    """Saves a figure, which must have been drawn in `looks.style()`, as this must be."""
    return Picture(title, caption, looks.data_uri(figure), tuple(notes))


def as_html(one: Picture) -> str:
    """The figure with its words; all text is escaped."""
    heading = f"<h3>{escape(one.title)}</h3>" if one.title else ""
    return (
        f'<figure>{heading}<img src="{escape(one.uri)}" alt="{escape(one.title or one.caption)}">'
        f"<figcaption>{escape(one.caption)}</figcaption>{bullets(one.notes)}</figure>"
    )
