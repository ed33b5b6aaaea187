"""How figures look: told apart by colour-blind readers, and in print by dashes and markers."""

import io
import math
import re
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
CALLED = "called "
"""Begins the id of what tells its name when the mouse is over it; the name follows."""
# Of matplotlib's SVG: what every figure would repeat, and digits that nobody sees.
_LEFT_OUT = re.compile(
    r' xmlns(?::xlink)?="[^"]*"|<defs>\s*<style.*?</style>\s*</defs>|'
    r'(?<=<g) id="[\w.]+_\d+"(?=/?>)|font-family: (?:&apos;|[^;"])*(?:; )?',
    re.DOTALL,
)
_DIGITS = re.compile(r"(\.\d\d)\d+")
_NAMED = re.compile(rf'<g id="{CALLED}([^"]*)">')
_LINE = re.compile(r'(<title>[^<]*</title>\s*)(<path d="[^"]*")([^>]*style="fill: none)')


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


def inline(figure: Figure, name: str = "") -> str:
    """The figure as an SVG element of the page, where text is text and a line tells its name.

    Its ids follow from `name`, so that those of two figures of one page do not clash.
    """
    spell_out(figure)
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            for part in handle.get_children() or [handle]:
                if part.get_gid() is None:
                    part.set_gid(CALLED + label)
    buffer = io.StringIO()
    nobody = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": f"report {name}"}):
        figure.savefig(buffer, format="svg", metadata=nobody)
    text = buffer.getvalue()
    text = _LEFT_OUT.sub("", text[text.index("<svg") :])
    text = _NAMED.sub(r'<g class="called"><title>\1</title>', text)
    # A thin line is hard to meet with a mouse.
    text = _LINE.sub(r'\1\2 class="near"/>\2\3', text)
    return re.sub(r"<[^>]*>", lambda tag: _DIGITS.sub(r"\1", tag[0]), text)


def alone(figure: Figure) -> str:
    """The figure as an SVG file that needs no font."""
    spell_out(figure)
    buffer = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "path", "svg.hashsalt": "alone"}):
        figure.savefig(buffer, format="svg", metadata={"Creator": None, "Date": None})
    return buffer.getvalue()


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
