"""Image files below a folder: those with a suffix that Pillow reads, and what is passed over."""

import functools
import os
import stat
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

# Known without the image library, which whoever checks a study file should not wait for.
COMMON = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".pgm", ".ppm", ".tif", ".tiff", ".webp"))
# Opened by Pillow's reader of JPEG, under whose name it is not listed.
OF_JPEG = "MPO"
# Pillow tells the size of a film, but reads none of its images.
FILM = "MPEG"
MOST_KINDS = 8


def image_files(folder: Path) -> tuple[list[tuple[str, str]], list[str]]:
    """Images below `folder` with their `file_mark`, and the files that are passed over.

    Both by relative path, sorted. Links to folders are followed. Passed over are files without
    a suffix that Pillow reads, and those of a name, or in a folder of a name, that begins with a
    dot; a folder of such a name directly below `folder` is not looked into. ValueError naming the
    folder that cannot be read or is reached in two ways (a link to one above it, two links to
    one), the link that leads nowhere, or the image or folder whose name is not UTF-8.
    """
    images: list[tuple[str, str]] = []
    passed: list[str] = []
    reached: set[str] = set()
    for parent, folders, files in os.walk(folder, onerror=_unreadable, followlinks=True):
        real = os.path.realpath(parent)
        if real in reached:
            raise ValueError(
                f"{parent} must be the only way to {shown(real)}, but another folder is or links "
                f"to it: its images would come twice."
            )
        reached.add(real)
        below = Path(parent).relative_to(folder)
        for name in [name for name in folders if name.startswith(".")]:
            folders.remove(name)
            if below.parts:
                passed += _all_files(folder, Path(parent, name))
        for name in folders:
            check_utf8(Path(parent, name))
        for name in files:
            path = Path(parent, name)
            if not name.startswith(".") and is_image(name):
                check_utf8(path)
                images.append(((below / name).as_posix(), file_mark(str(path))))
                continue
            passed.append((below / name).as_posix())
            if not name.startswith(".") and path.is_symlink():
                file_mark(str(path))  # one that leads nowhere may stand for a class folder
    return sorted(images), sorted(passed)


def is_image(name: str) -> bool:
    """Whether a file's name has a suffix that Pillow reads, in letters of either case."""
    suffix = PurePosixPath(name).suffix.lower()
    return suffix in COMMON or (suffix != "" and suffix in readable_suffixes())


@functools.cache
def readable_suffixes() -> frozenset[str]:
    """The suffixes, in lower case, of all formats that the installed Pillow reads."""
    # Only here: most folders hold nothing but common images.
    from PIL import Image, ImageFile

    suffixes = Image.registered_extensions()
    readable = {OF_JPEG}
    for name, (factory, _) in Image.OPEN.items():
        # A stub knows a format by sight, for somebody else's reader.
        stub = isinstance(factory, type) and issubclass(factory, ImageFile.StubImageFile)
        if not stub and name != FILM:
            readable.add(name)
    return frozenset(suffix for suffix, name in suffixes.items() if name in readable)


def said_of_passed(paths: Iterable[str]) -> str:
    """How many files of which suffix were passed over, in one sentence; "" of none."""
    counts: Counter[str] = Counter()
    first: dict[str, str] = {}
    for path in paths:
        parts = PurePosixPath(path).parts
        suffix = PurePosixPath(path).suffix.lower() or "without a suffix"
        kind = f"hidden {suffix}" if any(part.startswith(".") for part in parts) else suffix
        counts[kind] += 1
        first.setdefault(kind, path)
    if not counts:
        return ""
    kinds = sorted(counts, key=lambda kind: (-counts[kind], kind))
    told = [f"{counts[kind]} {kind} (such as {first[kind]})" for kind in kinds[:MOST_KINDS]]
    if rest := sum(counts[kind] for kind in kinds[MOST_KINDS:]):
        told.append(f"{rest} of {len(kinds) - MOST_KINDS} other kinds")
    files = "1 file was" if counts.total() == 1 else f"{counts.total()} files were"
    return f"{files} passed over inside class folders: {shown(', '.join(told))}."


def file_mark(path: str) -> str:
    """Size (bytes) of a file and when its content and its inode changed (ns).

    No content is read, since every trial asks. The second time is the system's own: nobody sets
    it, so that a file replaced by one of the same size and date is told from it; it also
    changes with the file's name, owner, rights and number of links. ValueError naming the file,
    if it is not there, is none, or is a link that leads nowhere.
    """
    try:
        # A string and no Path: there are more than half a million images in some data sets.
        found = os.stat(path)  # noqa: PTH116
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise ValueError(f"{shown(path)} must be there, but is not: {why}.") from error
    # Whoever opens a pipe waits for somebody to write to it.
    if not stat.S_ISREG(found.st_mode):
        raise ValueError(f"{shown(path)} must be a file, but is a folder, a pipe or a device.")
    return f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}"


def check_utf8(path: Path) -> None:
    """Refuses a name that is not UTF-8: no manifest, ledger or page could hold it."""
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"names of data files and folders must be UTF-8, but {shown(path)} is not: rename it "
            f"(convmv can do so for a whole folder)."
        ) from error


def shown(path: str | Path) -> str:
    """A path that can be printed: what is not UTF-8 stands in it as an escape."""
    try:
        return os.fsencode(path).decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # half a character that stands for no byte
        return str(path).encode("utf-8", "backslashreplace").decode()


def _all_files(folder: Path, hidden: Path) -> Iterator[str]:
    """The files below a hidden folder by their paths relative to `folder`; links are not followed.

    What cannot be read there matters to nobody.
    """
    for parent, _, files in os.walk(hidden):
        for name in files:
            yield Path(parent, name).relative_to(folder).as_posix()


def _unreadable(error: OSError) -> None:
    """Raises: os.walk would pass over a folder that it cannot read."""
    raise ValueError(
        f"{shown(error.filename)} must be a folder that can be read: {error.strerror}."
    ) from error
