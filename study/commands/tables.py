"""Tables and words for a terminal, of 80 columns too: nothing breaks in the middle of a word."""

import re
import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from typing import Literal

from rich import box
from rich.table import Table
from rich.text import Text

from study.ledger import setting_words
from study.system import harmless, say

# Of the report's summary, what fits into a terminal: by the words before the unit.
SUMMARY = ("cell", "final accuracy", "AAA", "forgetting")
NARROW = 24
# Behind these a word that is longer than its column goes on in the next line.
JOINTS = re.compile(r"(?<=[_./=,:@-])(?=\w)")
BLANK = " "


def plain(text: str) -> Text:
    """A text for tables: a name is no markup, and commands no terminal."""
    return Text(harmless(text))


def fitted(text: str, width: int = NARROW) -> Text:
    """The same for a column of `width` letters or more: longer words are parted at their joints."""
    words = [_parted(word, width) for word in harmless(text).split(BLANK)]
    return Text(BLANK.join(words))


def _parted(word: str, width: int) -> str:
    lines = [""]
    for part in JOINTS.split(word):
        if lines[-1] and len(lines[-1]) + len(part) > width:
            lines.append("")
        lines[-1] += part
    return "\n".join(lines)


def new_table(title: str | None = None, caption: str | None = None) -> Table:
    """A table without lines between its columns, whose words say what stands in it."""
    return Table(
        title=None if title is None else plain(title),
        caption=None if caption is None else plain(caption),
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        show_edge=False,
        padding=(0, 1, 0, 0),
    )


def summary_table(
    rows: Sequence[Mapping[str, str]], settings: Sequence[Mapping[str, object]], title: str
) -> Table:
    """The rows of the report's summary, with each cell's setting, as a table for the terminal."""
    table = new_table(title)
    headings = [
        heading for heading in (rows[0] if rows else {}) if heading.partition(",")[0] in SUMMARY
    ]
    for heading in headings:
        justify: Literal["left", "right"] = "left" if heading == "cell" else "right"
        # The unit stands below, and n beside none but the first.
        table.add_column(heading.replace(", ", ",\n"), justify=justify, no_wrap=heading != "cell")
    searched = any(settings)
    if searched:
        table.add_column("best setting")
    for row, setting in zip(rows, settings, strict=True):
        shown = [row[heading] for heading in headings]
        table.add_row(*map(fitted, [*shown, setting_words(setting)] if searched else shown))
    return table


def tell(text: str) -> None:
    """Prints a sentence, between whose words lines break at a terminal; in a file it is a line."""
    if sys.stdout.isatty():
        columns = shutil.get_terminal_size().columns
        lines = textwrap.wrap(
            text, columns, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
        )
        text = "\n".join(lines)
    say(text)


def hours_words(hours: float) -> str:
    """Hours in words: seconds below a minute, minutes below two hours, days from two on."""
    if hours * 60 < 1:
        return f"{hours * 3600:.0f} s"
    if hours < 2:
        return f"{hours * 60:.0f} min"
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.1f} days"


def hours_between(low: float, high: float, to: str = "–") -> str:
    """Two numbers of hours in words, their unit once where it is the same."""
    (first, unit), (second, other) = (hours_words(value).split() for value in (low, high))
    if unit != other:
        return f"{first} {unit}{to}{second} {other}"
    return f"{first} {unit}" if first == second else f"{first}{to}{second} {unit}"


def clock(seconds: float) -> str:
    """Seconds as m:ss, from an hour on as h:mm:ss."""
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 60:
        return f"{minutes:d}:{rest:02d}"
    return f"{minutes // 60:d}:{minutes % 60:02d}:{rest:02d}"
