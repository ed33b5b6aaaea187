"""The scripts that nodes run, each in an empty home and with stand-ins for what they start."""

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "cluster"
# Notes what it is called with; makes an environment with itself in it; is healthy or dies at once.
PYTHON = """#!/usr/bin/env bash
echo "$*" >> "$HOME/calls"
case "$1 $2" in
  "-m venv") mkdir -p "$3/bin"; cp "$0" "$3/bin/python" ;;
  "-m mlflow")
    echo "store $MLFLOW_BACKEND_STORE_URI $MLFLOW_ARTIFACTS_DESTINATION" >> "$HOME/calls"
    if [ -e "$HOME/dies" ]; then exit 3; fi; sleep 60 ;;
  "-c "*) exit 0 ;;
esac
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    python = tmp_path / "bin/python3.11"
    python.parent.mkdir()
    python.write_text(PYTHON, encoding="utf-8")
    python.chmod(0o755)
    project = tmp_path / "lrcs"
    (project / "cluster").mkdir(parents=True)
    (project / "cluster/constraints-cpu.txt").write_text("a==1\n", encoding="utf-8")
    (project / "pyproject.toml").write_text("", encoding="utf-8")
    return tmp_path


def run(home: Path, script: str, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {"HOME": str(home), "PATH": f"{home}/bin:/usr/bin:/bin", **variables}
    command = ["bash", str(SCRIPTS / script), *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)


def calls(home: Path) -> list[str]:
    return (home / "calls").read_text("utf-8").splitlines()


def test_install_uses_the_lock_and_the_extras_once(home: Path) -> None:
    (home / ".bashrc").write_text("case $- in *i*) ;; *) return;; esac\n", encoding="utf-8")
    for _ in range(2):
        done = run(home, "install.sh", "cpu", "aws")
        assert done.returncode == 0, done.stderr
    pips = [call for call in calls(home) if "pip install" in call]
    lock = home / "lrcs/cluster/constraints-cpu.txt"
    assert len(pips) == 1 and pips[0].endswith(f"-c {lock} -e {home}/lrcs[study,aws]")
    # A changed lock is installed.
    lock.write_text("a==2\n", encoding="utf-8")
    run(home, "install.sh", "cpu", "aws")
    assert sum("pip install" in call for call in calls(home)) == 2


def test_login_shells_know_the_variables(home: Path) -> None:
    # As Debian has it: it stops where the shell is not interactive.
    (home / ".bashrc").write_text("case $- in *i*) ;; *) return;; esac\n", encoding="utf-8")
    (home / "lrcs.env").write_text("export LRCS_STORAGE=/mnt/lrcs\n", encoding="utf-8")
    for _ in range(2):
        run(home, "install.sh", "cpu")
    environment = {"HOME": str(home), "PATH": "/usr/bin:/bin"}
    for options, source in (["--login", "-c"], ""), (["-c"], "source ~/.bashrc; "):
        command = ["bash", *options, f"{source}echo $LRCS_STORAGE"]
        told = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert told.stdout.strip() == "/mnt/lrcs"
    assert (home / ".profile").read_text("utf-8").count("lrcs.env") == 2  # one line


@pytest.mark.parametrize("share", ["disk", "az://bucket/path"])
def test_storage_refuses_what_it_does_not_know(home: Path, share: str) -> None:
    done = run(home, "storage.sh", "worker", LRCS_STORAGE=str(home / "all"), LRCS_SHARE=share)
    assert done.returncode == 1
    expected = "LRCS_SHARE must be empty, head, HOST:/PATH, s3://… or gs://…, but got"
    assert f"{expected} {share}" in done.stderr


def test_storage_wants_to_know_where_it_is(home: Path) -> None:
    done = run(home, "storage.sh", "head", LRCS_STORAGE=str(home / "all"), LRCS_SHARE="")
    assert done.returncode == 0 and (home / "all/studies").is_dir()
    assert "is not set: ~/lrcs.env" in run(home, "storage.sh", "head").stderr


@pytest.mark.parametrize(
    ("share", "role", "expected"),
    [
        ("fs:/export", "head", "mount -t nfs4 -o hard,timeo=600,retrans=2 fs:/export "),
        ("fs-1.efs.us-east-1.amazonaws.com:/", "worker", "retrans=2,noresvport fs-1.efs."),
        ("head", "worker", "mount -t nfs4 -o hard,timeo=600,retrans=2 10.0.0.7:"),
        ("s3://bucket/x", "worker", "mount -t nfs4 -o hard,timeo=600,retrans=2 10.0.0.7:"),
        ("head", "head", "exportfs -ra"),
    ],
)
def test_storage_mounts_or_exports(home: Path, share: str, role: str, expected: str) -> None:
    storage = home / "all"
    (storage / "studies").mkdir(parents=True)
    for name in ("sudo", "mount.nfs4", "exportfs"):
        stub = home / "bin" / name
        note = 'echo "$*" >> "$HOME/calls"; if [ "$1" = tee ]; then cat > /dev/null; fi'
        stub.write_text(f"#!/usr/bin/env bash\n{note}\n", encoding="utf-8")
        stub.chmod(0o755)
    variables = {"LRCS_STORAGE": str(storage), "LRCS_SHARE": share, "RAY_HEAD_IP": "10.0.0.7"}
    done = run(home, "storage.sh", role, **variables)
    assert done.returncode == 0, done.stderr
    assert any(expected in call for call in calls(home)), calls(home)


@pytest.fixture
def server(home: Path) -> Iterator[Path]:
    """A home with an environment, in which whatever has been started is ended."""
    environment = home / "lrcs-env/bin"
    environment.mkdir(parents=True)
    python = environment / "python"
    # The health check is that of the script's own Python: answered here without a server.
    python.write_text(PYTHON.replace("case", 'if [ "$1" = - ]; then exit 0; fi\ncase', 1), "utf-8")
    python.chmod(0o755)
    yield home
    run(home, "mlflow.sh", "stop", LRCS_STORAGE=str(home / "all"))


def servers(home: Path) -> list[str]:
    file = home / "calls"
    return [call for call in calls(home) if "mlflow server" in call] if file.exists() else []


def until(home: Path, count: int, seconds: float = 15) -> int:
    end = time.monotonic() + seconds
    while len(servers(home)) < count and time.monotonic() < end:
        time.sleep(0.05)
    return len(servers(home))


@pytest.mark.process
def test_one_mlflow_server_on_loopback(server: Path) -> None:
    variables = {"LRCS_STORAGE": str(server / "all")}
    for _ in range(3):
        done = run(server, "mlflow.sh", **variables)
        assert done.returncode == 0, done.stderr
    assert until(server, 1) == 1
    time.sleep(0.3)
    (only,) = servers(server)
    assert "--host 127.0.0.1 --port 5000 --workers 1" in only
    store = f"store sqlite:///{server}/all/mlflow/mlflow.db {server}/all/mlflow/artifacts"
    assert store in calls(server)


@pytest.mark.process
def test_two_variables_name_another_database_and_a_bucket(server: Path) -> None:
    database, bucket = "postgresql+psycopg2://me:secret@db.example/runs", "s3://bucket/runs"
    variables = {"LRCS_MLFLOW_DATABASE": database, "LRCS_MLFLOW_ARTIFACTS": bucket}
    done = run(server, "mlflow.sh", LRCS_STORAGE=str(server / "all"), **variables)
    assert done.returncode == 0, done.stderr
    assert until(server, 1) == 1
    assert f"store {database} {bucket}" in calls(server)
    assert not [call for call in servers(server) if "secret" in call]


@pytest.mark.process
def test_a_server_that_died_is_started_again_until_it_is_stopped(server: Path) -> None:
    variables = {"LRCS_STORAGE": str(server / "all")}
    (server / "dies").touch()
    run(server, "mlflow.sh", **variables)
    assert until(server, 2) >= 2
    assert "the server has ended (3)" in (server / "lrcs-mlflow.log").read_text("utf-8")
    lock = ["flock", "-n", str(server / ".lrcs-mlflow.lock"), "true"]
    assert subprocess.run(lock, check=False).returncode == 1
    run(server, "mlflow.sh", "stop", **variables)
    time.sleep(0.3)
    # Nobody is left who would start it again.
    assert subprocess.run(lock, check=False).returncode == 0
