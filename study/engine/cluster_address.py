"""Which Ray a study runs on: found in moments, and without Ray itself.

`ray.init` tries an address that nobody answers at for minutes, and then ends the process.
"""

import os
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

from study.errors import MistakeError
from study.system import is_own, read_own, say

LOCAL = "local"
# `ray up` leaves it in the home folder of a head.
HEAD_FILE = "ray_bootstrap_config.yaml"
CONNECT_SECONDS = 3.0
# Ray's own check of a cluster imports Ray first.
ANSWER_SECONDS = 60.0


def cluster_address() -> str:
    """The address of the cluster to join, or "local" where a study starts its own Ray.

    RAY_ADDRESS decides if it is set. Else a cluster that runs on this machine is joined, of
    which `ray start` has left the address; one that has ended meanwhile is passed over.

    Raises:
        MistakeError: if there is no cluster where RAY_ADDRESS says so, or one that does not
            answer.
    """
    named = os.environ.get("RAY_ADDRESS", "")
    if named == LOCAL or named.startswith("ray://"):
        return named
    if named.startswith(("http://", "https://")):
        raise MistakeError(
            f"RAY_ADDRESS must be the address of a cluster, say 127.0.0.1:6379 or auto, but got "
            f"{named!r}, which is the dashboard's: give that to `ray job submit --address` alone."
        )
    if named and named != "auto":
        if not _listens(named):
            raise MistakeError(f"RAY_ADDRESS is {named!r}, but no Ray cluster answers there.")
        _check_answers(named, "RAY_ADDRESS")
        return named
    path = _address_file()
    found = _trusted_text(path).strip()
    if found and _listens(found):
        _check_answers(found, str(path))
        return found
    if named == "auto":
        raise MistakeError(
            "RAY_ADDRESS is auto (which `ray submit` means on a head), but no Ray cluster runs on "
            "this machine. Start it again (`ray up CLUSTER.yaml`), or run without it: "
            "RAY_ADDRESS=local."
        )
    return LOCAL


def on_cluster() -> bool:
    """Whether trials will run on a cluster; refuses what `cluster_address` refuses."""
    return cluster_address() != LOCAL


def expect_cluster() -> None:
    """On a cluster's head, lets what `ray submit` brought join that cluster or nothing.

    A head whose Ray has ended would else train on its own, beside a cluster that comes back.
    """
    if (Path.home() / HEAD_FILE).is_file():
        # One that is set to nothing says nothing.
        os.environ["RAY_ADDRESS"] = os.environ.get("RAY_ADDRESS") or "auto"


def _address_file() -> Path:
    """Where `ray start` writes the address of the cluster that this machine belongs to."""
    temporary = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"
    return Path(temporary) / "ray" / "ray_current_cluster"


def _trusted_text(path: Path) -> str:
    """What is in the file if it is this user's or root's, as its folder is; says if it is not.

    Trials are sent to the cluster that it names, and what comes back is run.
    """
    if not path.is_file():
        return ""
    text = read_own(path) if is_own(path.parent) else None
    if text is not None:
        return text
    place = path if is_own(path.parent) else path.parent
    say(
        f"Warning: {path} is not used: {place} is a link, belongs to somebody else or can "
        f"be written to by others. To join that cluster, set RAY_ADDRESS.",
        error=True,
    )
    return ""


def _listens(address: str) -> bool:
    """Whether anything takes a connection at host:port."""
    try:
        place = urlsplit(f"//{address}")
        with socket.create_connection((place.hostname or "", place.port or 0), CONNECT_SECONDS):
            return True
    except (OSError, ValueError):
        return False


def _check_answers(address: str, source: str) -> None:
    """Refuses an address where something listens that is no Ray cluster, or a stuck one."""
    code = "from ray.scripts.scripts import main; main()"
    command = [sys.executable, "-P", "-c", code, "health-check", "--address", address]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=ANSWER_SECONDS, check=False
        )
        if done.returncode == 0:
            return
        why = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
    except subprocess.TimeoutExpired:
        why = f"no answer in {ANSWER_SECONDS:g} seconds"
    raise MistakeError(
        f"a Ray cluster should run at {address} (from {source}), but it does not answer as one "
        f"({why}). Start it again (`ray up CLUSTER.yaml`), or run without it: RAY_ADDRESS=local."
    )
