"""How figures look: told apart by colour-blind readers, and in print by dashes and markers."""

import base64
import io
import math
import unicodedata
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.text import Text

OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)), (0, (3, 1, 1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
GREY = "#555555"
GRID: Mapping[str, Any] = {"color": "#e4e4e4", "linewidth": 0.8}
MOST_PANELS = 6
"""Cells that a section shows in figures; all are in its table."""


@contextmanager
def style() -> Iterator[None]:
    """Fonts and lines of all figures; draw and save inside of it."""
    settings = {
        "font.size": 10.5,
        "axes.titlesize": 11,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": False,
        "axes.axisbelow": True,
        "lines.linewidth": 1.7,
        "lines.markersize": 4.5,
        "svg.hashsalt": "report",
        "legend.frameon": False,
        "figure.facecolor": "white",
        # A name with a $ is a name, and no formula.
        "text.parse_math": False,
    }
    with mpl.rc_context(settings), warnings.catch_warnings():
        # A letter that the font lacks; see `spell_out`.
        warnings.filterwarnings("ignore", r"Glyph \d+", UserWarning)
        # Names may be longer than a figure is wide.
        warnings.filterwarnings("ignore", r".*layout", UserWarning)
        yield


def data_uri(figure: Figure) -> str:
    """The figure as an SVG that stands inside the page (an image of its own: ids cannot clash)."""
    spell_out(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def spell_out(figure: Figure) -> None:
    """Replaces each letter that the font of its text lacks: by its parts, or its number."""
    for text in figure.findobj(Text):
        letters = get_font(findfont(text.get_fontproperties())).get_charmap()
        text.set_text("".join(_spelled(letter, letters) for letter in text.get_text()))


def _spelled(letter: str, letters: Mapping[int, int]) -> str:
    if letter == "\n" or ord(letter) in letters:
        return letter
    parts = unicodedata.normalize("NFKD", letter)
    if all(ord(part) in letters for part in parts):
        return parts
    return f"<U+{ord(letter):04X}>"


def line_style(index: int) -> dict[str, Any]:
    """Colour, dashes and marker of the line of that index; nothing repeats within 42 lines."""
    turn = index // len(OKABE_ITO)
    return {
        "color": OKABE_ITO[index % len(OKABE_ITO)],
        "linestyle": DASHES[(index + turn) % len(DASHES)],
        "marker": MARKERS[(index + 2 * turn) % len(MARKERS)],
    }


def ticks(tasks: int, most: int = 10) -> list[int]:
    """Where to write numbers of tasks: the first, round ones, and the last."""
    step = next(n for n in (1, 2, 5, 10, 20, 25, 50, 100, 200, 500) if tasks / n <= most)
    inner = [task for task in range(step, tasks, step) if task - 1 > step / 2 < tasks - task]
    return sorted({1, *inner, tasks})


def half(value: float) -> float:
    """Half an interval; 0 where there is none."""
    return 0.0 if math.isnan(value) else value
