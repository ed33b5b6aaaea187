"""What surrounds a run: signals, taken note of instead of acted upon at once, and MLflow."""

import contextlib
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import ParamSpec, TypeVar

from study.errors import LostError
from study.ledger import RESULTS, Ledger, StorageError, StudyFolder, is_full, shared_folder
from study.planning import StudySpec
from study.system import all_output_is_lost, say
from study.tracking import (
    Tracker,
    browse_lines,
    default_uri,
    has_own_store,
    missing_in_mlflow,
)

P = ParamSpec("P")
T = TypeVar("T")

SIGNALS = (signal.SIGINT, signal.SIGTERM)
TRACKING_SECONDS = 60
# Between two looks at whether the ledger is where it was.
LOOK_SECONDS = 2.0


class Interrupts:
    """Which signal asked the process to end, if any; true once there was one."""

    def __init__(self) -> None:
        self.received: signal.Signals | None = None

    def __bool__(self) -> bool:
        return self.received is not None

    @property
    def exit_code(self) -> int:
        """The exit code that a shell expects after the signal: 130 for Ctrl-C, 143 for TERM."""
        return 0 if self.received is None else 128 + self.received


class Beside:
    """What a study has beside its records, and goes on without: `what` is how it is called.

    Whatever it raises, but for a ledger that takes nothing more, is said once on standard error,
    unless `is_known` says that it has been said; it is not called again.
    """

    def __init__(self, what: str, is_known: Callable[[BaseException], bool] | None = None) -> None:
        self.what = what
        self.is_known = is_known
        self.lost = False

    def tried(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
        """What `work` returns; None where it, or anything before it, has failed."""
        if self.lost:
            return None
        try:
            return work(*args, **kwargs)
        except StorageError:
            raise
        except Exception as error:  # noqa: BLE001 (of whatever kind: the records come first)
            self.lost = True
            if self.is_known is None or not self.is_known(error):
                reason = f"{type(error).__name__}: {error}"
                say(f"{self.what} failed ({reason}): going on without it.", error=True)
            return None


@contextlib.contextmanager
def catch_interrupts() -> Iterator[Interrupts]:
    """Notes SIGINT and SIGTERM while it is active; a second one has its usual effect."""
    found = Interrupts()
    before = {number: signal.getsignal(number) for number in SIGNALS}

    def note(number: int, frame: FrameType | None) -> None:
        found.received = signal.Signals(number)
        restore()

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    for number in SIGNALS:
        signal.signal(number, note)
    try:
        yield found
    finally:
        restore()


@contextlib.contextmanager
def tracked(spec: StudySpec, folder: StudyFolder) -> Iterator[list[str]]:
    """Follows the ledger in `folder` with MLflow, unless `tracking` of the study file is none.

    Gives a list, in which lines are in the end that say how to open MLflow.
    """
    pages: list[str] = []
    if spec.tracking == "none":
        yield pages
        later = folder.command("--replay")
        say(f"MLflow: tracking was off; to bring the study there later: {later}")
        return
    tracker = Tracker(folder, default_uri(folder))
    full = False
    try:
        yield pages
    except BaseException as error:
        # Said already; what MLflow has no room for is written when the study goes on.
        full = is_full(error)
        raise
    finally:
        if not tracker.close(TRACKING_SECONDS) and not full:
            say(missing_in_mlflow(tracker.failure, folder))
    if has_own_store(folder):
        pages.append(f"MLflow: {open_command(folder)}")
    else:
        pages.append("MLflow: " + "\n  then open ".join(browse_lines(folder, tracker.experiment)))


def open_command(folder: StudyFolder) -> str:
    """The command line that opens a study's pages, as short as it is understood."""
    whole = folder.command("--open")
    places = [place.absolute() for place in (Path(RESULTS), *shared_folder())]
    found = folder.is_latest and folder.path.absolute().parent in places[-1:]
    return whole.partition(" --open ")[0] + " --open" if found else whole


class LedgerWatch:
    """Tells whether a ledger is lost; looks every few seconds, and trusts no single look."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._looked = time.monotonic()
        self._lost = 0

    def __call__(self) -> bool:
        """Whether it is lost, as far as that has been seen."""
        if time.monotonic() - self._looked > LOOK_SECONDS:
            self._looked = time.monotonic()
            self._lost = self._lost + 1 if self._ledger.is_lost() else 0
        return self._lost > 1

    @contextlib.contextmanager
    def telling(self, tell: Callable[[], object]) -> Iterator[None]:
        """Looks by itself while it is active, from another thread; calls `tell` once it is lost."""
        over = threading.Event()

        def watch() -> None:
            while not over.wait(LOOK_SECONDS / 2):
                if self():
                    tell()
                    return

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def saved(ledger: Ledger, folder: StudyFolder, option: str = "--resume") -> LostError:
    """Saves the records of a ledger that is not at its place any more; says where they are.

    `option` of study/run.py is what can be done with them: --resume or --report.
    """
    verb = "go on with" if option == "--resume" else "report them with"
    for parent in _parents(folder):
        try:
            place = StudyFolder.claimed(parent / f"{folder.path.name or 'study'}-saved")
        except OSError:
            continue
        try:
            ledger.save(place.ledger)
            break
        except OSError:
            # There was room for a folder alone.
            shutil.rmtree(place.path, ignore_errors=True)
    else:
        return LostError(f"{folder.ledger} is not there any more, and nothing could be saved.")
    return LostError(
        f"{folder.ledger} is not there any more: it, or its folder, was deleted or renamed. Its "
        f"records are saved in {place.path}. Put the folder back, or {verb}: "
        f"{place.command(option)}",
        place.path,
    )


def _parents(folder: StudyFolder) -> Iterator[Path]:
    """Folders that records can be saved to: beside the study, here, and a temporary one."""
    finds: tuple[Callable[[], Path], ...] = (
        lambda: folder.path.resolve().parent,
        Path.cwd,
        lambda: Path(tempfile.gettempdir()),
    )
    for find in finds:
        # This process may stand in a folder that is gone, and no temporary one take a file.
        with contextlib.suppress(OSError):
            parent = find()
            if parent.is_dir():
                yield parent


def lost_output(folder: StudyFolder) -> list[str]:
    """A warning, where nobody could be told anything any more."""
    if not all_output_is_lost():
        return []
    return [
        f"Neither standard output nor standard error took anything more; what they would have "
        f"shown is in {folder.console_log.name}."
    ]
