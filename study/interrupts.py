"""Ctrl-C and termination, taken note of instead of acted upon at once."""

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


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


@contextlib.contextmanager
def catch_interrupts() -> Iterator[Interrupts]:
    """Notes SIGINT and SIGTERM while it is active; a second one has its usual effect."""
    found = Interrupts()
    before = {one: signal.getsignal(one) for one in SIGNALS}

    def note(number: int, frame: FrameType | None) -> None:
        found.received = signal.Signals(number)
        for one, handler in before.items():
            signal.signal(one, handler)

    for one in SIGNALS:
        signal.signal(one, note)
    try:
        yield found
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
