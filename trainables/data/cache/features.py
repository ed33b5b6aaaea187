"""Rows of features, computed once a machine: a mapped file that all of its trials read and extend.

A folder `<name>-<key>` has `features.bin` (rows of float32, one unit after the other) and
`header.json` (where each unit lies, with a checksum). A unit is what was computed at once, and is
known by a name. Rows are only ever appended, and the header is replaced when they are written, so
that a reader needs no lock.
"""

import json
import logging
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from trainables.data.cache.folders import FEATURES, HEADER, NEW_HEADER, locked, mark_used

FEATURES_VERSION = 1
ITEM = np.dtype(np.float32).itemsize

Features: TypeAlias = NDArray[np.float32]
# First row, number of rows, CRC-32.
Place: TypeAlias = tuple[int, int, int]

logger = logging.getLogger(__name__)


class KnownFeatures:
    """The units of a folder, rows of `width` numbers each; none where nothing was written yet.

    A damaged unit counts as not known, and is written again. Nothing here fails for want of room
    or of the right to write: that is said once, and no more is kept.
    """

    def __init__(self, folder: Path, width: int) -> None:
        self.folder, self._width = folder, width
        self._units: dict[str, Place] = {}
        self._damaged: set[Place] = set()
        self._writes = True
        mark_used(folder)

    def read(self, names: Iterable[str]) -> dict[str, Features]:
        """Copies of the units that are there and whole, by name."""
        wanted = list(names)
        if not self._units.keys() >= set(wanted):
            self._units = self._placed()
        places = {name: self._units[name] for name in wanted if name in self._units}
        if not places:
            return {}
        rows, found = self._rows(), {}
        for name, (start, count, checksum) in places.items():
            unit = np.array(rows[start : start + count])
            if len(unit) == count and zlib.crc32(unit.data) == checksum:
                found[name] = unit
            else:
                self._note_damage(name)
        return found

    @contextmanager
    def adding(self) -> Iterator[None]:
        """Holds the folder's lock where that can be: others wait, and then find what was added."""
        with ExitStack() as held:
            if self._writes:
                try:
                    held.enter_context(locked(self.folder))
                # The latter of a file system without locks.
                except (OSError, NotImplementedError) as error:
                    self._give_up(error)
            yield

    def add(self, units: Mapping[str, Features]) -> None:
        """Writes units (rows, width); the caller is `adding`."""
        if not self._writes:
            return
        placed = self._placed()
        start = max((first + count for first, count, _ in placed.values()), default=0)
        try:
            self.folder.mkdir(exist_ok=True)
            (self.folder / FEATURES).touch()
            with (self.folder / FEATURES).open("r+b") as file:
                # What another process was killed over is written over.
                file.seek(start * self._width * ITEM)
                for name, unit in units.items():
                    content = np.ascontiguousarray(unit, np.float32)
                    file.write(content.data)
                    placed[name] = (start, len(content), zlib.crc32(content.data))
                    start += len(content)
            header = {
                "version": FEATURES_VERSION,
                "folder": self.folder.name,
                "width": self._width,
                "units": placed,
            }
            # Not brought to the disk: what a machine loses has another checksum.
            (self.folder / NEW_HEADER).write_text(json.dumps(header), encoding="utf-8")
            (self.folder / NEW_HEADER).replace(self.folder / HEADER)
        except OSError as error:
            self._give_up(error)

    def _rows(self) -> Features:
        """All rows that the file has, mapped."""
        path = self.folder / FEATURES
        try:
            count = path.stat().st_size // (self._width * ITEM)
            # Nothing cannot be mapped.
            if count:
                return np.memmap(path, np.float32, mode="r", shape=(count, self._width))
        except OSError:  # another process removed it
            pass
        return np.empty((0, self._width), np.float32)

    def _placed(self) -> dict[str, Place]:
        """What the header says now of units that are not damaged; nothing where it says nothing."""
        try:
            header: Any = json.loads((self.folder / HEADER).read_text(encoding="utf-8"))
            found = (header["version"], header["folder"], header["width"])
            if found != (FEATURES_VERSION, self.folder.name, self._width):
                raise ValueError(f"its header is of {found}")
            placed: dict[str, Place] = {
                name: (int(start), int(count), int(checksum))
                for name, (start, count, checksum) in header["units"].items()
            }
        except OSError:
            return {}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            logger.warning("the features in %s are computed again: %s", self.folder, error)
            return {}
        return {name: place for name, place in placed.items() if place not in self._damaged}

    def _note_damage(self, name: str) -> None:
        logger.warning(
            "features in %s have changed since they were written, and are computed again",
            self.folder,
        )
        self._damaged.add(self._units.pop(name))

    def _give_up(self, error: Exception) -> None:
        self._writes = False
        logger.warning("features are computed, and not kept in %s: %s", self.folder, error)
