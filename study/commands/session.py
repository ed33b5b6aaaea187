"""What surrounds a run: signals, taken note of instead of acted upon at once, and MLflow."""

import contextlib
import signal
from collections.abc import Callable, Iterator
from types import FrameType
from typing import ParamSpec, TypeVar

from study.ledger import StorageError, StudyFolder
from study.planning import StudySpec
from study.system import say
from study.tracking import Tracker, browse_lines, default_uri, missing_in_mlflow

P = ParamSpec("P")
T = TypeVar("T")

SIGNALS = (signal.SIGINT, signal.SIGTERM)
TRACKING_SECONDS = 60


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

    Whatever it raises, but for a ledger that takes nothing more, is said once on standard error;
    it is not called again.
    """

    def __init__(self, what: str) -> None:
        self.what = what
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
def tracked(spec: StudySpec, folder: StudyFolder) -> Iterator[None]:
    """Follows the ledger in `folder` with MLflow, unless `tracking` of the study file is none."""
    if spec.tracking == "none":
        yield
        later = folder.command("--replay")
        say(f"MLflow: tracking was off; to bring the study there later: {later}")
        return
    tracker = Tracker(folder, default_uri(folder))
    try:
        yield
    finally:
        if not tracker.close(TRACKING_SECONDS):
            say(missing_in_mlflow(tracker.failure, folder))
    say("MLflow: " + "\n  then open ".join(browse_lines(folder, tracker.experiment)))
