"""A person's mistakes: all of them told at once, each with the names that were close."""

import contextlib
import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

# More names than these are a page, in which nobody looks: the nearest are told instead.
MOST_NAMES, NEAREST = 12, 3
MOST_MISTAKES = 50
# Of a value that a message repeats.
MOST_LETTERS = 200
# A quoted value, what a sentence says it got, a word that is no path.
VALUES = re.compile(
    rf"(?<=')[^'\n]{{{MOST_LETTERS},}}(?=')"
    rf"|(?<=but got )[^\n]{{{MOST_LETTERS},}}?(?=\.(?: [A-Z]|\n|$))"
    rf"|[^\s/]{{{MOST_LETTERS},}}"
)


class MistakeError(ValueError):
    """A person's mistake that shows only when the study starts; it deserves no traceback."""


class LostError(Exception):
    """A study cannot go on since a part of it is gone; the message says what to do.

    `saved` is the folder that its records were saved to, where they are not at their place.
    """

    def __init__(self, message: str, saved: Path | None = None) -> None:
        super().__init__(message)
        self.saved = saved


class InvalidStudyError(ValueError):
    """What is wrong with a study file (`source`), a line each where it is more than one thing.

    A mistake is a sentence that states the rule and then the value; each is told once.
    """

    def __init__(self, mistakes: Sequence[str], source: str = "") -> None:
        self.mistakes = tuple(dict.fromkeys(mistakes))
        told = [brief(mistake) for mistake in self.mistakes[:MOST_MISTAKES]]
        text = told[0]
        if len(self.mistakes) > 1:
            text = "\n  ".join([f"{len(self.mistakes)} mistakes:", *told])
        if len(self.mistakes) > len(told):
            text += f"\n  and {len(self.mistakes) - len(told)} more."
        super().__init__(f"{source}: {text}" if source else text)


def brief(message: str) -> str:
    """A message in which no value takes more than MOST_LETTERS letters."""
    return VALUES.sub(lambda match: f"{match[0][: MOST_LETTERS - 1]}…", message)


@contextlib.contextmanager
def noted(mistakes: list[str]) -> Iterator[None]:
    """Adds what a check refuses to `mistakes`, so that the next check is made as well."""
    try:
        yield
    except InvalidStudyError as error:
        mistakes += error.mistakes
    except ValueError as error:
        mistakes.append(str(error))


def refuse(mistakes: Sequence[str], source: str = "") -> None:
    """Refuses a study with mistakes, with an InvalidStudyError."""
    if mistakes:
        raise InvalidStudyError(mistakes, source)


def close(name: Any, known: Iterable[str]) -> list[str]:
    """The known name that is closest to `name`, if one is close."""
    return difflib.get_close_matches(str(name), list(known), n=1)


def hint(name: Any, known: Iterable[str]) -> str:
    """Asks whether the closest known name was meant, if one is close."""
    return "".join(f" Did you mean {other!r}?" for other in close(name, known))


def one_of(what: str, name: Any, known: Iterable[str]) -> str:
    """Says that a value must be one of these names, with the closest; few names are all told."""
    names = list(known)
    if len(names) <= MOST_NAMES:
        return f"{what} must be one of {names}, but got {name!r}.{hint(name, names)}"
    return f"{what} must be one of {len(names)} names, but got {name!r}.{_nearest(name, names)}"


def _nearest(name: Any, names: Sequence[str]) -> str:
    """The closest name; where none is close, the nearest of all."""
    nearest = difflib.get_close_matches(str(name), names, NEAREST, 0.0)
    return hint(name, names) or (f" The nearest are {nearest}." if nearest else "")


def unknown(what: str, name: Any, known: Iterable[str], of: str = "") -> str:
    """Says that a name is not known (`of` something), with the closest; few are all told."""
    names = sorted(known)
    if len(names) > MOST_NAMES:
        return f"unknown {what} {name!r}{of}.{_nearest(name, names)}"
    near = hint(name, names)
    listed = f" Known are {names}." if near else f"; known are {names}."
    return f"unknown {what} {name!r}{of}{'.' if near else ''}{near}{listed}"


def is_number(value: Any) -> bool:
    """Whether `value` is a number; True and False are not."""
    return isinstance(value, int | float) and not isinstance(value, bool)
