"""Which Ray is joined: found at once, never waited for."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from study import run
from study.engine import ray_session, resources
from study.engine.cluster_address import cluster_address
from study.errors import MistakeError
from study.ledger import is_full
from tests.study.strangers import give_away


@pytest.fixture
def listener() -> Iterator[str]:
    """The address of a port at which something listens."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def address_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where `ray start` leaves an address; nothing is in RAY_ADDRESS."""
    monkeypatch.delenv("RAY_ADDRESS")
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    (tmp_path / "ray").mkdir()
    return tmp_path / "ray" / "ray_current_cluster"


def answer(monkeypatch: pytest.MonkeyPatch, code: int | None) -> None:
    """Lets Ray's own check end with a code, or not at all."""

    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        if code is None:
            raise subprocess.TimeoutExpired(command, options["timeout"])
        return subprocess.CompletedProcess(command, code, "", "first\nno GCS here\n")

    monkeypatch.setattr(subprocess, "run", run)


def test_a_cluster_of_this_machine_is_joined_else_a_study_has_its_own_ray(
    address_file: Path, listener: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cluster_address() == "local"
    # One that has ended is passed over.
    address_file.write_text("127.0.0.1:9")
    assert cluster_address() == "local"
    address_file.write_text(listener)
    answer(monkeypatch, 0)
    assert cluster_address() == listener
    for named, expected in (("auto", listener), (listener, listener), ("local", "local")):
        monkeypatch.setenv("RAY_ADDRESS", named)
        assert cluster_address() == expected


@pytest.mark.parametrize(("code", "why"), [(1, "no GCS here"), (None, "no answer in 60 seconds")])
def test_a_cluster_that_hangs_is_a_mistake(
    address_file: Path,
    listener: str,
    monkeypatch: pytest.MonkeyPatch,
    code: int | None,
    why: str,
) -> None:
    address_file.write_text(listener)
    answer(monkeypatch, code)
    with pytest.raises(MistakeError) as error:
        cluster_address()
    assert str(error.value) == (
        f"a Ray cluster should run at {listener} (from {address_file}), but it does not answer as "
        f"one ({why}). Start it again (`ray up CLUSTER.yaml`), or run without it: "
        f"RAY_ADDRESS=local."
    )


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("127.0.0.1:9", "RAY_ADDRESS is '127.0.0.1:9', but no Ray cluster answers there."),
        ("nonsense", "RAY_ADDRESS is 'nonsense', but no Ray cluster answers there."),
        ("auto", "no Ray cluster runs on this machine. Start it again (`ray up CLUSTER.yaml`)"),
        ("http://127.0.0.1:8265", "but got 'http://127.0.0.1:8265', which is the dashboard's"),
    ],
)
def test_an_address_that_nobody_answers_at_is_a_mistake(
    address_file: Path, monkeypatch: pytest.MonkeyPatch, address: str, message: str
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(MistakeError) as error:
        cluster_address()
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("head", "alone", "named", "expected"),
    [
        (True, True, None, "auto"),
        (True, True, "", "auto"),
        (True, True, "local", "local"),
        # A copy of the file on somebody's own machine, and the project itself on a head.
        (False, True, None, None),
        (True, False, None, None),
    ],
)
def test_what_came_by_ray_submit_never_starts_a_ray_beside_the_heads(
    head: bool,
    alone: bool,
    named: str | None,
    expected: str | None,
    address_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    # Whatever is set in between is taken back at the end.
    monkeypatch.setenv("RAY_ADDRESS", named or "")
    if named is None:
        monkeypatch.delenv("RAY_ADDRESS")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(run, "ALONE", alone)
    if head:
        (tmp_path / "ray_bootstrap_config.yaml").touch()
    assert run.main(["--list"]) == 0
    assert os.environ.get("RAY_ADDRESS") == expected


def test_the_autoscaler_is_asked_for_a_node_with_room(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    nodes: list[dict[str, Any]] = [{"Alive": True, "Resources": {"CPU": 0.0}}]
    asked: list[Any] = []

    def request(bundles: list[dict[str, float]]) -> None:
        asked.append(bundles)
        nodes.append({"Alive": True, "Resources": {"CPU": 4.0, "GPU": 1.0}})

    monkeypatch.setattr(resources.ray, "nodes", lambda: nodes)
    monkeypatch.setattr(resources, "request_resources", request)
    resources.wait_for_room(1, 0.5, bool)
    resources.wait_for_room(1, "auto", bool)
    # Afterwards nothing keeps a node that idles.
    assert asked == [[{"CPU": 1, "GPU": 0.5}], []]
    said = "No node has room for a trial (CPU 1, GPU 0.5): waiting up to 15"
    assert said in capsys.readouterr().out
    # Waiting ends with the study; without a node in time the study says what is missing.
    nodes.clear()
    monkeypatch.setattr(resources, "request_resources", lambda bundles: None)
    with pytest.raises(SystemExit):
        resources.wait_for_room(1, 0, lambda: True)
    monkeypatch.setattr(resources, "ROOM_SECONDS", 0.0)
    resources.wait_for_room(1, 0, bool)


@pytest.mark.parametrize(
    ("address", "error", "expected"),
    [
        # What Ray says of a node that is not there in time; it has no class of its own.
        ("local", Exception("The current node timed out."), r"start on this machine, but it did n"),
        ("127.0.0.1:1", RuntimeError("Version\n x"), r"cluster at 127.0.0.1:1,.*: Version x\)"),
        ("127.0.0.1:1", ConnectionError(), r"join .* \(ConnectionError: no reason given"),
    ],
)
def test_a_ray_that_does_not_start_is_told_in_one_message(
    address: str,
    error: Exception,
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    def fail(**options: Any) -> None:
        raise error

    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setattr(ray_session, "cluster_address", lambda: address)
    monkeypatch.setattr(ray_session.ray, "init", fail)
    session = ray_session.ray_session(tmp_path / "ray.log")
    with pytest.raises(MistakeError, match=expected) as raised, session:
        raise AssertionError("Ray has not started")
    assert str(tmp_path / "ray.log") in str(raised.value) and "\n" not in str(raised.value)
    # Where it was raised is not lost, should it be this project's own mistake.
    log = (tmp_path / "ray.log").read_text("utf-8")
    assert "Traceback" in log and "in fail" in log
    # Of a disk without room, Ray says no word.
    monkeypatch.setattr(ray_session, "LITTLE_BYTES", 2**60)
    session = ray_session.ray_session(tmp_path / "ray.log")
    with pytest.raises((MistakeError, OSError)) as again, session:
        raise AssertionError("Ray has not started")
    assert is_full(again.value) == (address == "local")


@pytest.mark.parametrize(
    "planted", ["a link", "its folder", "others write", "another's", "another's folder", "a pipe"]
)
def test_an_address_that_somebody_else_may_have_written_is_not_used(
    address_file: Path,
    listener: str,
    planted: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    address_file.write_text(listener)
    if planted == "a link":
        address_file.rename(tmp_path / "elsewhere")
        address_file.symlink_to(tmp_path / "elsewhere")
    elif planted == "its folder":
        address_file.parent.rename(tmp_path / "elsewhere")
        address_file.parent.symlink_to(tmp_path / "elsewhere")
    elif planted == "a pipe":
        # What is read from it would be waited for.
        address_file.unlink()
        os.mkfifo(address_file)
    elif planted == "others write":
        address_file.chmod(0o666)
    else:
        give_away(address_file if planted == "another's" else address_file.parent)
    assert cluster_address() == "local"
    said = f"{address_file} is not used" in capsys.readouterr().err
    assert said == (planted != "a pipe")


@pytest.mark.parametrize(
    ("planted", "cleared"),
    [
        ("nothing", True),
        ("another's folder", False),
        ("a link to a folder", False),
        ("a lock that is a link", False),
        ("a folder that others write to", False),
        ("a folder of the group", False),
        ("a file", False),
    ],
)
def test_of_old_folders_of_ray_only_ones_own_are_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, planted: str, cleared: bool
) -> None:
    monkeypatch.setattr(ray_session, "SHORT", tmp_path)
    (victim := tmp_path / "thesis").write_text("my thesis")
    (folder := tmp_path / "study-ray-old").mkdir(mode=0o700)
    # As Ray makes its own.
    (folder / "ray").mkdir()
    (folder / "ray").chmod(0o777)
    lock = folder / "lock"
    if planted in ("nothing", "a link to a folder"):
        lock.touch()
    elif planted != "a file":
        lock.symlink_to(victim)
    if planted == "another's folder":
        give_away(folder)
    elif planted == "a link to a folder":
        folder = folder.rename(tmp_path / "elsewhere")
        (tmp_path / "study-ray-old").symlink_to(folder)
    elif planted == "a file":
        shutil.rmtree(folder)
        folder.write_text("no folder")
    elif planted.startswith("a folder"):
        folder.chmod(0o777 if planted.endswith("to") else 0o770)
    os.utime(folder, (0, 0))
    ray_session._clear_old_folders()
    assert (victim.read_text(), folder.exists()) == ("my thesis", not cleared)
