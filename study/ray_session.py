"""Ray as a study needs it: started, quiet, and gone without a trace at the end."""

import contextlib
import logging
import math
import os
import secrets
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import ray

from study.rules import MistakeError
from study.spec import Resources

# The object store carries nothing but settings and results here; Ray's default is 30 % of memory.
OBJECT_STORE_BYTES = 128 * 2**20
# Complains that there are no CSV and JSON files, see below.
NEEDLESS_LOGGER = "ray.tune.analysis.experiment_analysis"
# Ray reads all of these from the environment, and what a user has set stays.
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    # A trial without GPUs must not see any: a CUDA context takes memory of those that have one.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",
    # The newer output engine prints a table even when it is asked to be silent.
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_DISABLE_IMPORT_WARNING": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # The ledger is the record; Tune's CSV, JSON and TensorBoard files would repeat it.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    # Snapshots of Tune's own state are of no use either: a study is restored from its ledger.
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",
}


@contextlib.contextmanager
def ray_session(log: Path) -> Iterator[None]:
    """Starts Ray on this machine, or joins the cluster that RAY_ADDRESS names.

    Does nothing where Ray runs in this process already. Ray's own messages go to the file `log`.
    """
    for key, value in ENVIRONMENT.items():
        os.environ.setdefault(key, value)
    if ray.is_initialized():
        yield
        return
    address = os.environ.get("RAY_ADDRESS", "local")
    with _logging_to(log), contextlib.ExitStack() as stack:
        if address == "local":
            stack.callback(shutil.rmtree, folder := _short_folder(), ignore_errors=True)
            _own_token()
            stack.callback(ray.shutdown)
            with _signal_handlers_kept():
                ray.init(
                    address="local",
                    include_dashboard=False,
                    log_to_driver=False,
                    logging_level=logging.WARNING,
                    object_store_memory=OBJECT_STORE_BYTES,
                    _temp_dir=folder,
                )
        else:
            stack.callback(ray.shutdown)
            with _signal_handlers_kept():
                ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING)
        yield


def slots(resources: Resources) -> int:
    """How many trials fit into the cluster as it is now; at least 1."""
    have = ray.cluster_resources()
    fits: list[int] = [
        math.floor(have.get(name, 0) / need + 1e-9)
        for name, need in (("CPU", resources.cpu), ("GPU", resources.gpu))
        if need > 0
    ]
    return max(1, min(fits))


def check_resources(resources: Resources) -> None:
    """Refuses trials that no machine of the cluster could run.

    Raises:
        MistakeError: naming what a trial asks for and what there is.
    """
    have = ray.cluster_resources()
    for name, need in (("CPU", resources.cpu), ("GPU", resources.gpu)):
        if need > have.get(name, 0):
            raise MistakeError(
                f"resources.{name.lower()} must be at most {have.get(name, 0):g} (all that Ray "
                f"found here), but got {need:g}."
            )


def _short_folder() -> str:
    """A folder for Ray's sockets, whose paths may have 107 bytes at most."""
    base = Path("/tmp")
    return tempfile.mkdtemp(prefix="study-", dir=base if os.access(base, os.W_OK) else None)


def _own_token() -> None:
    """Gives this cluster a token that ends with it.

    Ray would write one into the home folder, where any cluster started later would adopt it.
    """
    if "RAY_AUTH_MODE" not in os.environ:
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


@contextlib.contextmanager
def _signal_handlers_kept() -> Iterator[None]:
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
def _logging_to(path: Path) -> Iterator[None]:
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
