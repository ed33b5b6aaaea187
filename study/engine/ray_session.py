"""Ray as a study needs it: started, quiet, and gone without a trace at the end."""

import contextlib
import errno
import gc
import logging
import os
import secrets
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray
from ray._private import ray_constants

from study.engine.cluster_address import LOCAL, cluster_address
from study.errors import MistakeError
from study.ledger import StudyFolder
from study.system import is_private, say

# The object store carries nothing but settings and results here; Ray's default is 30 % of memory.
OBJECT_STORE_BYTES = 128 * 2**20
# Complains that there are no CSV and JSON files: the ledger is the record.
NEEDLESS_LOGGER = "ray.tune.analysis.experiment_analysis"
QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.WARNING}
SHORT, PREFIX = Path("/tmp"), "study-ray-"
# With less on its disk Ray, which then says nothing of it, has no room.
LITTLE_BYTES = 2**20
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
def ray_session(log: Path) -> Iterator[bool]:
    """Joins the cluster that RAY_ADDRESS names or that runs here, else starts Ray on this machine.

    One that is started here listens on loopback alone. Does nothing where Ray runs in this process
    already. Ray's own messages go to the file `log`. Gives whether trials may run on other machines
    than this.

    Raises:
        MistakeError: if the cluster that is to be joined does not answer, or Ray fails to start.
        OSError: if there is no room for Ray's files.
    """
    for key, value in ENVIRONMENT.items():
        os.environ.setdefault(key, value)
    if ray.is_initialized():
        yield len(alive_nodes()) > 1
        return
    address = cluster_address()
    with _logging_to(log), contextlib.ExitStack() as stack:
        if address == LOCAL:
            _clear_old_folders()
            # For Ray's sockets, whose paths may have 107 bytes at most. Its own folder Ray opens to
            # everybody, so that it lies in one that is this user's alone.
            short = SHORT if os.access(SHORT, os.W_OK) else None
            folder = tempfile.mkdtemp(prefix=PREFIX, dir=short)
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            stack.enter_context(StudyFolder(Path(folder)).held())
            # Of this cluster alone: Ray would write a token into the home folder, where any
            # cluster started later would adopt it.
            if "RAY_AUTH_MODE" not in os.environ:
                os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
            stack.enter_context(_on_loopback())
            # Of this driver alone: once it is killed, nothing of it is left after so many seconds.
            # Ray ends the driver too that long after its GCS server has died; see `RayWatch`.
            os.environ.setdefault("RAY_gcs_rpc_server_reconnect_timeout_s", "30")
            stack.callback(_shut_down)
            with _signal_handlers_kept(), _one_message("start on this machine", log, folder):
                ray.init(
                    address=LOCAL,
                    include_dashboard=False,
                    object_store_memory=OBJECT_STORE_BYTES,
                    _temp_dir=str(Path(folder, "ray")),
                    **QUIET,
                )
        else:
            stack.callback(_shut_down)
            with _signal_handlers_kept(), _one_message(f"join the cluster at {address}", log):
                ray.init(address=address, **QUIET)
            have, nodes = ray.cluster_resources(), len(alive_nodes())
            say(
                f"Ray: joined the cluster at {address} with {nodes} node{'s' * (nodes > 1)}, "
                f"{have.get('CPU', 0):g} CPUs and {have.get('GPU', 0):g} GPUs now"
            )
        yield address != LOCAL


@contextlib.contextmanager
def _on_loopback() -> Iterator[None]:
    """Lets all of Ray listen on this machine's loopback, as it does by itself on macOS alone.

    An address of loopback that `ray.init` is given it takes for the machine's outer one. Its other
    processes read the environment, which this one had read when Ray was imported.
    """
    before, ray_constants.ENABLE_RAY_CLUSTER = ray_constants.ENABLE_RAY_CLUSTER, False
    told = os.environ.get(ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR)
    os.environ[ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR] = "0"
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before
        del os.environ[ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR]
        if told is not None:
            os.environ[ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR] = told


def alive_nodes() -> list[dict[str, Any]]:
    """The nodes of the cluster as Ray describes them, without those that have left."""
    return [node for node in ray.nodes() if node["Alive"]]


def _shut_down() -> None:
    """Leaves Ray.

    Tune's objects refer to Ray's in circles. One that the garbage collector finds while Ray is
    going, from whatever thread, ends the process, so none may be left and none be looked for.
    """
    gc.collect()
    gc.disable()
    try:
        ray.shutdown()
    finally:
        gc.enable()


def _clear_old_folders() -> None:
    """Deletes what drivers that were killed have left: folders that nobody holds any more.

    Nothing is opened in a folder that others made or can write to, nor through a link: the lock in
    it may be a link to any file of this user's.
    """
    for folder in SHORT.glob(f"{PREFIX}*"):
        with contextlib.suppress(MistakeError, OSError):
            # A younger one may be about to be locked.
            if is_private(folder) and time.time() - folder.stat().st_mtime > 60:
                with StudyFolder(folder).held():
                    shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _one_message(what: str, log: Path, folder: str | None = None) -> Iterator[None]:
    """Turns whatever Ray fails with into one message that says what it should have done.

    `folder` is where its files were to be.
    """
    try:
        yield
    except Exception as error:
        # Of no narrower kind: a node that is not there in time is an Exception to Ray itself. What
        # is this project's own mistake must be findable all the same.
        logging.getLogger("ray").error("Ray must %s", what, exc_info=error)
        if folder is not None and _is_full(folder):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), folder) from error
        why = " ".join(str(error).split()) or "no reason given"
        raise MistakeError(
            f"Ray must {what}, but it did not ({type(error).__name__}: {why}). Where the machine "
            f"is busy or short of memory, try again; the whole error is in {log}."
        ) from error


def _is_full(folder: str) -> bool:
    """Whether there is next to no room for bytes or for files."""
    found = os.statvfs(folder)
    no_files = found.f_files > 0 and found.f_favail == 0
    return found.f_bavail * found.f_frsize < LITTLE_BYTES or no_files


@contextlib.contextmanager
def _signal_handlers_kept() -> Iterator[None]:
    """Puts the handlers back that ray.init replaces (its own for SIGTERM aborts the process).

    A SIGTERM that Ray's handler took, which ends in SystemExit, is handed on to the one put back.
    """
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    main = threading.current_thread() is threading.main_thread()
    try:
        try:
            yield
        finally:
            for number, handler in before.items():
                if main and handler is not None:
                    signal.signal(number, handler)
    except SystemExit:
        if main and callable(before[signal.SIGTERM]):
            signal.raise_signal(signal.SIGTERM)
        raise


class _LogFile(logging.FileHandler):
    """A file of messages that a full disk takes no more of, which nobody needs to hear."""

    def emit(self, record: logging.LogRecord) -> None:
        """Writes a message where it can."""
        with contextlib.suppress(OSError):
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Lets go of a message."""

    def close(self) -> None:
        """Closes the file, as far as the disk lets it."""
        with contextlib.suppress(OSError):
            super().close()


@contextlib.contextmanager
def _logging_to(path: Path) -> Iterator[None]:
    """Sends the messages of Ray's loggers to a file and nowhere else."""
    logging.getLogger(NEEDLESS_LOGGER).setLevel(logging.ERROR)
    logger = logging.getLogger("ray")
    handler = _LogFile(path, encoding="utf-8", delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    before = (logger.handlers, logger.propagate)
    logger.handlers, logger.propagate = [handler], False
    try:
        yield
    finally:
        logger.handlers, logger.propagate = before
        handler.close()
