"""What surrounds the start of Ray: its messages, its errors, and the signals it takes."""

import contextlib
import logging
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

from study.rules import MistakeError

# Complains that there are no CSV and JSON files: the ledger is the record.
NEEDLESS_LOGGER = "ray.tune.analysis.experiment_analysis"


@contextlib.contextmanager
def one_message(what: str, log: Path) -> Iterator[None]:
    """Turns whatever Ray fails with into one message that says what it should have done."""
    try:
        yield
    except Exception as error:
        # Of no narrower kind: a node that is not there in time is an Exception to Ray itself. What
        # is this project's own mistake must be findable all the same.
        logging.getLogger("ray").error("Ray must %s", what, exc_info=error)
        why = " ".join(str(error).split()) or "no reason given"
        raise MistakeError(
            f"Ray must {what}, but it did not ({type(error).__name__}: {why}). Where the machine "
            f"is busy or short of memory, try again; the whole error is in {log}."
        ) from error


@contextlib.contextmanager
def signal_handlers_kept() -> Iterator[None]:
    """Puts the handlers back that ray.init replaces (its own for SIGTERM aborts the process).

    A SIGTERM that Ray's handler took, which ends in SystemExit, is handed on to the one put back.
    """
    before = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)}
    main = threading.current_thread() is threading.main_thread()
    try:
        try:
            yield
        finally:
            for one, handler in before.items():
                if main and handler is not None:
                    signal.signal(one, handler)
    except SystemExit:
        if main and callable(before[signal.SIGTERM]):
            signal.raise_signal(signal.SIGTERM)
        raise


@contextlib.contextmanager
def logging_to(path: Path) -> Iterator[None]:
    """Sends the messages of Ray's loggers to a file and nowhere else."""
    logging.getLogger(NEEDLESS_LOGGER).setLevel(logging.ERROR)
    logger = logging.getLogger("ray")
    handler = logging.FileHandler(path, encoding="utf-8", delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    before = (logger.handlers, logger.propagate)
    logger.handlers, logger.propagate = [handler], False
    try:
        yield
    finally:
        logger.handlers, logger.propagate = before
        handler.close()
