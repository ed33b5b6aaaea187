"""Folders of studies, found by the start of their names."""

from collections.abc import Sequence
from pathlib import Path


def newest(wanted: str, roots: Sequence[Path], file: str) -> Path | None:
    """The folder `wanted`, or one below `roots` whose name begins like that, that holds `file`.

    Of several it is the one whose file was written to last; None where there is none.
    """
    path = Path(wanted)
    if (path / file).is_file():
        return path
    found = [
        one.parent
        for root in roots
        if wanted and path.name == wanted
        for one in root.glob(f"*/{file}")
        if one.parent.name.startswith(wanted)
    ]
    return max(found, key=lambda one: (one / file).stat().st_mtime, default=None)
