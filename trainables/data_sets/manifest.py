"""Split manifests: a text file that pins which image has which label and split.

    # split manifest, version 1
    # name: imagenet_r
    # sha256: of all that follows this line
    # class: n01443537
    n01443537/art_0.jpg<TAB>0<TAB>train

Classes stand in label order, which is the natural class order; the order of the images
says nothing.
"""

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from trainables.data_sets.index import SPLITS, Entry

FIRST_LINE = "# split manifest, version 1"
NAME, SHA256, CLASS = "# name: ", "# sha256: ", "# class: "


@dataclass(frozen=True)
class Manifest:
    """Which images of the data set `name` are used, as what; `class_names` in label order."""

    name: str
    class_names: tuple[str, ...]
    entries: tuple[Entry, ...]

    @property
    def sha256(self) -> str:
        """Hash of classes and entries, as it stands in the file."""
        return _sha256(self._body())

    def write(self, path: Path) -> None:
        """Writes the file, never torn; ValueError for a tab or line break in a path or class."""
        words = [*self.class_names, *(entry.path for entry in self.entries)]
        broken = [word for word in words if set(word) & set("\t\r\n")]
        if broken:
            raise ValueError(f"paths and classes must have no tab or line break: {broken[0]!r}.")
        body = self._body()
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
        partial.write_text(
            f"{FIRST_LINE}\n{NAME}{self.name}\n{SHA256}{_sha256(body)}\n{body}",
            encoding="utf-8",
            newline="\n",
        )
        partial.replace(path)

    def _body(self) -> str:
        lines = [f"{CLASS}{name}" for name in self.class_names]
        lines += [f"{entry.path}\t{entry.label}\t{entry.split}" for entry in self.entries]
        return "".join(f"{line}\n" for line in lines)


def read_manifest(path: Path) -> Manifest:
    """Reads a manifest and checks its hash.

    ValueError naming the file and line, if it is not a manifest, was changed by hand, or has a
    class or an image twice.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} must be a split manifest that can be read: {error}.") from error
    head = text.split("\n", 3)
    starts = (FIRST_LINE, NAME, SHA256)
    if len(head) < 4 or not all(
        line.startswith(start) for line, start in zip(head[:3], starts, strict=True)
    ):
        raise ValueError(f"{path} must start with {FIRST_LINE!r}, its name and its sha256.")
    body = head[3]
    stated = head[2].removeprefix(SHA256).strip()
    if stated != _sha256(body):
        raise ValueError(
            f"{path} must have the sha256 {stated} that it states, but has {_sha256(body)}: "
            f"it was changed or cut off."
        )
    lines = body.split("\n")[:-1]
    classes = tuple(line.removeprefix(CLASS) for line in lines if line.startswith(CLASS))
    entries = [
        _entry(path, number, line)
        for number, line in enumerate(lines, start=4)
        if not line.startswith(CLASS)
    ]
    _refuse_twice(path, "class", classes)
    _refuse_twice(path, "image", (entry.path for entry in entries))
    return Manifest(head[1].removeprefix(NAME).strip(), classes, tuple(entries))


def check_fits(manifest: Manifest, path: Path, name: str, there: Iterable[str]) -> None:
    """Refuses a manifest, read from `path`, that does not fit the data set `name`.

    `there` are the paths of the images that exist; the manifest must list all of them.
    ValueError naming the manifest and what does not fit.
    """
    if manifest.name != name:
        raise ValueError(f"data.manifest {path} must be of {name}, but is of {manifest.name}.")
    listed, exist = {entry.path for entry in manifest.entries}, set(there)
    missing, left_out = listed - exist, exist - listed
    if missing:
        raise ValueError(
            f"data.manifest {path} lists {len(missing)} images that {name} does not have, "
            f"such as {min(missing)}."
        )
    if left_out:
        raise ValueError(
            f"data.manifest {path} must list every image of {name}, but leaves out "
            f"{len(left_out)}, the first {min(left_out)}."
        )


def _entry(path: Path, number: int, line: str) -> Entry:
    parts = line.split("\t")
    if len(parts) != 3 or not parts[1].isdecimal() or parts[2] not in SPLITS:
        raise ValueError(
            f"{path}, line {number}: must be path, label and {' or '.join(SPLITS)} between tabs, "
            f"but got {line!r}."
        )
    return Entry(parts[0], int(parts[1]), parts[2])


def _refuse_twice(path: Path, kind: str, words: Iterable[str]) -> None:
    seen: set[str] = set()
    for word in words:
        if word in seen:
            raise ValueError(f"{path}: every {kind} must be listed once, but {word!r} is twice.")
        seen.add(word)


def _sha256(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()
