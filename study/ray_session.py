"""Ray as a study needs it: started, quiet, and gone without a trace at the end."""

import contextlib
import gc
import logging
import math
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import ray
from ray.autoscaler.sdk import request_resources

from study.cluster_address import LOCAL, cluster_address
from study.lock import only_one
from study.ray_start import logging_to, one_message, signal_handlers_kept
from study.rules import MistakeError
from study.terminal import say

# The object store carries nothing but settings and results here; Ray's default is 30 % of memory.
OBJECT_STORE_BYTES = 128 * 2**20
# A cloud needs some minutes for a GPU node, and its set-up some more.
ROOM_SECONDS = 900.0
SHORT, PREFIX = Path("/tmp"), "study-ray-"
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

    Does nothing where Ray runs in this process already. Ray's own messages go to the file `log`.
    Gives whether trials may run on other machines than this.

    Raises:
        MistakeError: if the cluster that is to be joined does not answer, or Ray fails to start.
    """
    for key, value in ENVIRONMENT.items():
        os.environ.setdefault(key, value)
    if ray.is_initialized():
        yield len(alive_nodes()) > 1
        return
    address = cluster_address()
    with logging_to(log), contextlib.ExitStack() as stack:
        if address == LOCAL:
            _clear_old_folders()
            stack.callback(shutil.rmtree, folder := _short_folder(), ignore_errors=True)
            stack.enter_context(only_one(Path(folder)))
            _own_token()
            # Of this driver alone: once it is killed, nothing of it is left after so many seconds.
            os.environ.setdefault("RAY_gcs_rpc_server_reconnect_timeout_s", "15")
            stack.callback(_shut_down)
            with signal_handlers_kept(), one_message("start on this machine", log):
                ray.init(
                    address=LOCAL,
                    include_dashboard=False,
                    log_to_driver=False,
                    logging_level=logging.WARNING,
                    object_store_memory=OBJECT_STORE_BYTES,
                    _temp_dir=folder,
                )
        else:
            stack.callback(_shut_down)
            with signal_handlers_kept(), one_message(f"join the cluster at {address}", log):
                ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING)
            say(f"Ray: joined {_described(address)}")
        yield address != LOCAL


def alive_nodes() -> list[dict[str, Any]]:
    """The nodes of the cluster as Ray describes them, without those that have left."""
    return [one for one in ray.nodes() if one["Alive"]]


def _described(address: str) -> str:
    have = ray.cluster_resources()
    nodes = len(alive_nodes())
    return (
        f"the cluster at {address} with {nodes} node{'s' if nodes > 1 else ''}, "
        f"{have.get('CPU', 0):g} CPUs and {have.get('GPU', 0):g} GPUs now"
    )


def slots(cpu: float, gpu: float) -> int:
    """How many trials of `cpu` cores and `gpu` GPUs fit into the cluster as it is; at least 1."""
    have = ray.cluster_resources()
    fits: list[int] = [
        math.floor(have.get(name, 0) / need + 1e-9)
        for name, need in (("CPU", cpu), ("GPU", gpu))
        if need > 0
    ]
    return max(1, min(fits))


def wait_for_room(cpu: float, gpu: float | str, stopped: Callable[[], bool]) -> None:
    """Asks a cluster's autoscaler for a node that can run a trial, where there is none yet.

    After ROOM_SECONDS without one it returns: `check_resources` says then what is missing. `gpu`
    may be "auto".

    Raises:
        SystemExit: once `stopped` is true.
    """
    need = {"CPU": cpu, "GPU": 0.0 if isinstance(gpu, str) else gpu}
    need = {key: one for key, one in need.items() if one > 0}
    if _room(need):
        return
    text = ", ".join(f"{key} {one:g}" for key, one in need.items())
    say(
        f"No node has room for a trial ({text}): waiting up to {ROOM_SECONDS / 60:g} minutes for "
        f"the autoscaler, or a worker, to bring one. `ray status` on the head says why none comes."
    )
    end = time.monotonic() + ROOM_SECONDS
    request_resources(bundles=[need])
    try:
        while not _room(need) and time.monotonic() < end:
            if stopped():
                raise SystemExit(1)
            time.sleep(0.5)
    finally:
        request_resources(bundles=[])


def _room(need: Mapping[str, float]) -> bool:
    """Whether a single node has as much, busy or not."""
    return any(
        all(node["Resources"].get(key, 0) >= one for key, one in need.items())
        for node in alive_nodes()
    )


def check_resources(cpu: float, gpu: float) -> None:
    """Refuses trials of `cpu` cores and `gpu` GPUs that the cluster could not run.

    Raises:
        MistakeError: naming what a trial asks for and what there is.
    """
    have = ray.cluster_resources()
    for name, need in (("CPU", cpu), ("GPU", gpu)):
        if need > have.get(name, 0):
            raise MistakeError(
                f"resources.{name.lower()} must be at most {have.get(name, 0):g} (all that Ray "
                f"found here), but got {need:g}."
            )


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


def _short_folder() -> str:
    """A folder for Ray's sockets, whose paths may have 107 bytes at most."""
    return tempfile.mkdtemp(prefix=PREFIX, dir=SHORT if os.access(SHORT, os.W_OK) else None)


def _clear_old_folders() -> None:
    """Deletes what drivers that were killed have left: folders that nobody holds any more."""
    for folder in SHORT.glob(f"{PREFIX}*"):
        with contextlib.suppress(MistakeError, OSError):
            # A younger one may be about to be locked.
            if folder.is_dir() and time.time() - folder.stat().st_mtime > 60:
                with only_one(folder):
                    shutil.rmtree(folder, ignore_errors=True)


def _own_token() -> None:
    """Gives this cluster a token that ends with it.

    Ray would write one into the home folder, where any cluster started later would adopt it.
    """
    if "RAY_AUTH_MODE" not in os.environ:
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
