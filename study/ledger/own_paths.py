"""The guard of every path that a ledger or a study's folder brings along.

A study's folder is data, also one that came from somebody else: nothing outside of it is followed,
read, written or deleted for what stands in it.
"""

import os
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

LONGEST_NAME = 200
# Where checkpoints lie: of sessions with Ray, and of one configuration (--once).
SESSIONS, CHECKPOINT, MODELS = "ray", "checkpoint", "models"


def is_name(value: Any) -> bool:
    """Whether `value` can name a folder of its own: no path, no step upwards, nothing hidden."""
    return (
        isinstance(value, str)
        and 0 < len(value) <= LONGEST_NAME
        and not value.startswith(".")
        and value.isprintable()
        and not {"/", "\\"} & {*value}
    )


def is_relative(value: Any) -> bool:
    """Whether `value` is a path that leads downwards, as this project writes them."""
    return (
        isinstance(value, str)
        and value != ""
        and "\0" not in value
        and PurePosixPath(value).as_posix() == value
        and not PurePosixPath(value).is_absolute()
        and not {".", ".."} & {*value.split("/")}
    )


def is_checkpoint(value: Any) -> bool:
    """Whether `value` is the folder of a checkpoint: `checkpoint`, or one below `ray/`."""
    return value == CHECKPOINT or (is_relative(value) and value.startswith(f"{SESSIONS}/"))


def is_model(value: Any) -> bool:
    """Whether `value` is the folder of merged weights: one below `models/`."""
    return is_relative(value) and value.startswith(f"{MODELS}/")


def own_path(folder: Path, relative: str, source: str = "its path") -> Path:
    """A path of a ledger in the study's folder, which must reach it through no link.

    Nothing needs to be there yet. `source` is what a message calls the place it stands in.

    Raises:
        ValueError: if it leads out of the folder, or through a link.
    """
    if not is_relative(relative):
        raise ValueError(
            f"a path must lead downwards from the study's folder, but {source} is {relative!r}."
        )
    path = folder.resolve()
    for part in relative.split("/"):
        path /= part
        if is_link(path):
            raise ValueError(
                f"what a study reads and writes must lie in its own folder, but {path} is a link, "
                f"and {source} is {relative!r}; put what it points to in its place."
            )
    return path


def check_paths(folder: Path, places: Iterable[tuple[str, str]]) -> None:
    """Refuses a study that would read or write outside of its folder.

    `places` are the paths of its ledger, each with what a message calls the place it stands in.

    Raises:
        ValueError: naming the record's line and its path, or a link in the folder.
    """
    # What else a study writes to is looked at when its folder is held.
    refuse_links(folder, (SESSIONS, CHECKPOINT, MODELS, "report", "mlflow.db", "mlflow-artifacts"))
    for path, source in places:
        own_path(folder, path, source)


def refuse_planted(output: Path) -> None:
    """Refuses a place for what is written that leads where somebody else wants it to.

    Where everybody can write, that is a link of somebody else's on the way, or their folder at the
    place itself. A folder on the way may be anybody's: it is the person who named it.

    Raises:
        ValueError: naming what somebody else has made.
    """
    output = output.absolute()
    for place in (*reversed(output.parents), output):
        try:
            found, parent = place.lstat(), place.parent.stat()
        except OSError:
            return
        others = found.st_uid not in (os.geteuid(), 0) and parent.st_mode & stat.S_IWOTH
        if others and (place == output or stat.S_ISLNK(found.st_mode)):
            raise ValueError(
                f"--output must be a folder of yours where everybody can write, reached through "
                f"links of yours alone, but {place} is of user {found.st_uid}."
            )


def refuse_links(folder: Path, names: Sequence[str]) -> None:
    """Refuses links in a study's folder under names that the study writes to.

    Raises:
        ValueError: naming the first.
    """
    for name in names:
        own_path(folder, name, "what it writes to")


def is_link(path: Path) -> bool:
    """Whether a link is there; what cannot be looked at is none."""
    try:
        return stat.S_ISLNK(path.lstat().st_mode)
    except (OSError, ValueError):
        return False
