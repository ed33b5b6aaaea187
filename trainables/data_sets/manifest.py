"""Split manifests: a text file that pins which image has which label and split.

    # split manifest, version 1
    # name: imagenet_r
    # sha256: of all that follows this line
    # class: n01443537
    n01443537/art_0.jpg<TAB>0<TAB>train

The third column is train, validation or test; of most sets no image is of "validation".
Where images are rendered, a line on that stands before the classes ("# rendition: street 0.5 …").
Classes stand in label order, which is the natural class order; the order of the images
says nothing. Where a name has a tab, a line break or half a character (a lone surrogate), the file
is of version 2: all names are texts of JSON there.
"""

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from trainables.data_sets.index import SPLITS, Entry

FIRST_LINE, QUOTED_FIRST_LINE = "# split manifest, version 1", "# split manifest, version 2"
# What would end a line or a column, or is no text in UTF-8.
BREAKING = re.compile(r"[\t\r\n\ud800-\udfff]")
NAME, SHA256, CLASS = "# name: ", "# sha256: ", "# class: "
RENDITION = "# rendition: "


@dataclass(frozen=True)
class Manifest:
    """Which images of the data set `name` are used, as what; `class_names` in label order.

    `rendition` says how images are drawn anew, where they are: which one, its strength and a hash
    of what it gives.
    """

    name: str
    class_names: tuple[str, ...]
    entries: tuple[Entry, ...]
    rendition: str | None = None

    @property
    def sha256(self) -> str:
        """Hash of rendition, classes and entries, as it stands in the file."""
        return _sha256(self._body())

    def write(self, path: Path) -> None:
        """Writes the file, never torn."""
        body = self._body()
        first, name = FIRST_LINE, self.name
        if self._is_quoted():
            first, name = QUOTED_FIRST_LINE, json.dumps(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
        partial.write_text(
            f"{first}\n{NAME}{name}\n{SHA256}{_sha256(body)}\n{body}",
            encoding="utf-8",
            newline="\n",
        )
        partial.replace(path)

    def _is_quoted(self) -> bool:
        words = (self.name, *self.class_names, *(entry.path for entry in self.entries))
        return any(map(BREAKING.search, words))

    def _body(self) -> str:
        # Of all other sets the hash is that of version 1, which ledgers hold.
        spell = json.dumps if self._is_quoted() else str
        lines = [] if self.rendition is None else [f"{RENDITION}{self.rendition}"]
        lines += [f"{CLASS}{spell(name)}" for name in self.class_names]
        lines += [f"{spell(entry.path)}\t{entry.label}\t{entry.split}" for entry in self.entries]
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
    firsts = (FIRST_LINE, QUOTED_FIRST_LINE)
    if (
        len(head) < 4
        or head[0] not in firsts
        or not (head[1].startswith(NAME) and head[2].startswith(SHA256))
    ):
        raise ValueError(f"{path} must start with {FIRST_LINE!r}, its name and its sha256.")
    body = head[3]
    stated = head[2].removeprefix(SHA256).strip()
    if stated != _sha256(body):
        raise ValueError(
            f"{path} must have the sha256 {stated} that it states, but has {_sha256(body)}: "
            f"it was changed or cut off."
        )
    read = _quoted if head[0] == QUOTED_FIRST_LINE else _plain
    classes: list[str] = []
    entries: list[Entry] = []
    lines, start, rendition = body.split("\n")[:-1], 4, None
    if lines and lines[0].startswith(RENDITION) and "\t" not in lines[0]:
        rendition, start = lines.pop(0).removeprefix(RENDITION), 5
    for number, line in enumerate(lines, start):
        where = f"{path}, line {number}"
        # The path of an image may begin as a class does, but two columns follow it.
        if line.startswith(CLASS) and "\t" not in line:
            classes.append(read(where, line.removeprefix(CLASS)))
        else:
            entries.append(_entry(where, line, read))
    _refuse_twice(path, "class", classes)
    _refuse_twice(path, "image", (entry.path for entry in entries))
    name = read(f"{path}, line 2", head[1].removeprefix(NAME))
    return Manifest(name, tuple(classes), tuple(entries), rendition)


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


def _entry(where: str, line: str, read: Callable[[str, str], str]) -> Entry:
    parts = line.split("\t")
    if len(parts) != 3 or not parts[1].isdecimal() or parts[2] not in SPLITS:
        raise ValueError(
            f"{where}: must be path, label and {' or '.join(SPLITS)} between tabs, but got "
            f"{line!r}."
        )
    return Entry(read(where, parts[0]), int(parts[1]), parts[2])


def _plain(where: str, word: str) -> str:
    return word


def _quoted(where: str, word: str) -> str:
    try:
        text = json.loads(word)
    except ValueError as error:
        raise ValueError(f"{where}: must be a text of JSON, but got {word!r}.") from error
    if not isinstance(text, str):
        raise ValueError(f"{where}: must be a text of JSON, but got {word!r}.")
    return text


def _refuse_twice(path: Path, kind: str, words: Iterable[str]) -> None:
    seen: set[str] = set()
    for word in words:
        if word in seen:
            raise ValueError(f"{path}: every {kind} must be listed once, but {word!r} is twice.")
        seen.add(word)


def _sha256(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()
