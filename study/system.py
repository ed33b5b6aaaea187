"""Lines at the terminal, processes of this project's own, and the doors of its rooms."""

import atexit
import contextlib
import functools
import importlib
import io
import os
import pwd
import re
import shlex
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO, cast

# What the terminal would obey or what changes the order of letters: names may hold anything.
COMMANDS = {
    **{code: f"\\x{code:02x}" for code in (*range(9), *range(11, 32), *range(127, 160))},
    **{code: f"\\u{code:04x}" for code in (0x061C, 0x200E, 0x200F)},
    **{code: f"\\u{code:04x}" for code in (*range(0x2028, 0x202F), *range(0x2066, 0x206A))},
}
# Letters of what was written that are kept until a stream has taken them: more than its buffer.
MOST_UNSURE = 20_000
# Commands for a terminal, of no use in a file.
# Of an installed project.
CONSOLE_COMMAND = "lrcs"
CONTROLS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def say(text: str, error: bool = False) -> None:
    """Prints lines as they are: nothing is wrapped, coloured or taken for markup."""
    # In one piece, so that what is lost is a line.
    print(f"{harmless(text)}\n", end="", file=sys.stderr if error else sys.stdout)


def show_cursor() -> None:
    """Gives a terminal its cursor back, which a live table that has no end has hidden."""
    if sys.stdout.isatty():
        sys.stdout.write("\x1b[?25h")
        sys.stdout.flush()


def harmless(text: str) -> str:
    """The text with what would command the terminal or turn its writing round shown as escapes."""
    return text.translate(COMMANDS)


class Output:
    """A standard stream whose failures are nobody's failure.

    Where the stream takes nothing more (its disk is full, its reader or its terminal is gone), this
    is said once, and from then on it leads nowhere, for processes that are started later as well.
    What it would have shown goes to a file, see `keep`; some of it may have been shown before. A
    letter that it has no code for is shown as an escape.

    Args:
        stream: the stream that it stands for.
        tell: is called once with what happened.
    """

    def __init__(self, stream: TextIO, tell: Callable[[str], object]) -> None:
        self._stream = stream
        self._tell = tell
        self.lost = False
        self._place: Path | None = None
        # Whether the stream has taken it is not known yet.
        self._unsure = ""
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Writes what can be written; returns the number of letters it was given."""
        self._unsure = (self._unsure + text)[-MOST_UNSURE:]
        taken = self._guarded(lambda: self._stream.write(text))
        if taken and "\n" in text and getattr(self._stream, "line_buffering", False):
            self._unsure = ""
        return len(text)

    def flush(self) -> None:
        """Hands on what was written, as far as it is taken."""
        if self._guarded(self._stream.flush):
            self._unsure = ""

    def keep(self, place: Path) -> None:
        """Appends what the stream does not take any more to a file, as far as that takes it."""
        self._place = place
        if self.lost:
            self._note()

    def isatty(self) -> bool:
        """Whether a person may be looking."""
        return not self.lost and self._stream.isatty()

    def end(self) -> None:
        """Hands on the rest; what its reader still has not taken is lost."""
        if not self.lost:
            try:
                self._stream.flush()
            except (OSError, ValueError) as error:
                self._lose(error)

    def _guarded(self, work: Callable[[], object]) -> bool:
        """Does what the stream must take; whether it has."""
        if self.lost:
            self._note()
            return False
        try:
            work()
            return True
        except BlockingIOError:
            # Its reader is slow: what did not fit is lost, what comes later may fit.
            pass
        except (OSError, ValueError) as error:
            self._lose(error)
        return False

    def _note(self) -> None:
        """Brings the lines that the stream has not taken to the file, where there is one."""
        if self._place is None or "\n" not in self._unsure:
            return
        lines, _, self._unsure = self._unsure.rpartition("\n")
        with (
            contextlib.suppress(OSError),
            self._place.open("a", encoding="utf-8", errors="backslashreplace") as file,
        ):
            file.write(CONTROLS.sub("", lines) + "\n")

    def _lose(self, error: OSError | ValueError) -> None:
        self.lost = True
        with contextlib.suppress(OSError, ValueError):
            # What is still in its buffer must go somewhere when the process ends.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
        reason = getattr(error, "strerror", None) or error
        self._tell(f"The terminal takes nothing more ({reason}): going on without it.")
        self._note()


@contextlib.contextmanager
def guarded_output() -> Iterator[None]:
    """Standard output and error fail nobody while it is active; a closed one leads nowhere.

    What one of them cannot take any more, the other says.
    """
    for number, mode in ((0, os.O_RDONLY), (1, os.O_WRONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            # The next file that is opened would get its number, and what is printed.
            os.open(os.devnull, mode)
    before = sys.stdout, sys.stderr
    # Of each other, not of what stands in their place by then: a live table puts itself there.
    streams = (
        Output(sys.stdout or io.StringIO(), lambda text: print(text, file=error)),
        Output(sys.stderr or io.StringIO(), lambda text: print(text, file=output)),
    )
    output, error = (cast(TextIO, stream) for stream in streams)
    sys.stdout, sys.stderr = output, error
    try:
        yield
    finally:
        for stream in streams:
            stream.end()
        sys.stdout, sys.stderr = before


def keep_output(place: Path) -> None:
    """Appends what standard output or error does not take any more to a file from now on."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, Output):
            stream.keep(place)


def output_is_lost() -> bool:
    """Whether standard output takes nothing more."""
    # What waits in a buffer shows only now that it finds no taker.
    sys.stdout.flush()
    return isinstance(sys.stdout, Output) and sys.stdout.lost


def all_output_is_lost() -> bool:
    """Whether neither standard output nor standard error takes anything more."""
    sys.stderr.flush()
    return output_is_lost() and isinstance(sys.stderr, Output) and sys.stderr.lost


def ensure_home() -> None:
    """Gives a user whom the system does not know, and who has no HOME, a folder and a name.

    torch, MLflow, Ray and the cache of images ask for them. The folder goes with the process.
    """
    try:
        pwd.getpwuid(os.getuid())
    except KeyError:
        os.environ.setdefault("USER", f"user-{os.getuid()}")
        if "HOME" not in os.environ:
            home = tempfile.mkdtemp(prefix="study-home-")
            os.environ["HOME"] = home
            atexit.register(functools.partial(shutil.rmtree, home, ignore_errors=True))


def is_own(path: Path) -> bool:
    """Whether what is at `path`, in a folder that others can write to, is this user's or root's.

    A link is nobody's: it leads wherever who made it wants. So is a file that others can write to;
    of a folder (Ray's own lets everybody in) the files are looked at, each by itself.
    """
    try:
        return _is_owned(path.lstat())
    except OSError:
        return False


def _is_owned(found: os.stat_result) -> bool:
    mine = found.st_uid in (os.geteuid(), 0)
    shared = stat.S_ISREG(found.st_mode) and found.st_mode & stat.S_IWOTH
    return mine and not stat.S_ISLNK(found.st_mode) and not shared


def is_private(folder: Path) -> bool:
    """Whether a folder is this user's, reached through no link, and nobody else can write to it."""
    try:
        found = folder.lstat()
    except OSError:
        return False
    mine = found.st_uid == os.geteuid()
    return (
        mine and stat.S_ISDIR(found.st_mode) and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    )


def read_own(path: Path) -> str | None:
    """The text of a file that `is_own`; None where there is no such file.

    Looked at and read in one step: in between, another could be put in its place.
    """
    try:
        number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    with open(number, encoding="utf-8", errors="replace") as file:  # noqa: PTH123
        found = os.fstat(number)
        return file.read() if _is_owned(found) and stat.S_ISREG(found.st_mode) else None


def own_program() -> str:
    """What a person types to run this program: `lrcs`, or Python and a script."""
    name = Path(sys.argv[0]).name
    if name == CONSOLE_COMMAND:
        return CONSOLE_COMMAND
    return f"python {shlex.quote(sys.argv[0] if name == 'run.py' else 'study/run.py')}"


def own_command(module: str, arguments: Sequence[str]) -> list[str]:
    """The command that runs a module of this project; see `own_environment`."""
    # Without the working directory on its path, whose files would be found first.
    return [sys.executable, "-P", "-m", module, *arguments]


def own_environment() -> dict[str, str]:
    """The environment in which such a process finds the same modules as this one."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def door(package: str, homes: Mapping[str, Sequence[str]]) -> Callable[[str], Any]:
    """The `__getattr__` of a package: each name is loaded when it is first asked for.

    Args:
        package: its name.
        homes: modules of the package, each with the names that are taken from it.
    """
    modules = {name: module for module, names in homes.items() for name in names}

    def load(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{package}.{modules[name]}"), name)

    return load
