"""MLflow's server on PostgreSQL, its artifacts in a bucket: as on a cluster of many people."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from urllib.request import urlopen

import boto3
import psycopg2
import pytest

from tests.study.tracking.mlflow_server import Server, counted_in
from tests.study.tracking.struck import run_struck

BUCKET, KEYS = "lrcs-artifacts", {"AWS_ACCESS_KEY_ID": "one", "AWS_SECRET_ACCESS_KEY": "two"}
# The server of PostgreSQL refuses root: it runs as a user that owns nothing else.
NOBODY = ("setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups")
PATIENCE_SECONDS = 60.0


@pytest.fixture
def postgres() -> Iterator[str]:
    """The address of a database of this test's own, on loopback."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not programs:
        pytest.skip("for want of PostgreSQL (Debian's package postgresql)")
    place, port = programs[-1].parent, _free_port()
    folder = Path(tempfile.mkdtemp(prefix="postgres-", dir="/var/tmp"))
    as_user = NOBODY if os.getuid() == 0 else ()
    if as_user:
        shutil.chown(folder, "nobody", "nogroup")
    data, options = str(folder / "data"), f"-h 127.0.0.1 -p {port} -k {folder}"
    try:
        for command in (
            [place / "initdb", "--auth", "trust", "--username", "lrcs", "-D", data],
            [place / "pg_ctl", "-w", "-l", folder / "log", "-o", options, "-D", data, "start"],
        ):
            started = [*as_user, *map(str, command)]
            subprocess.run(started, check=True, cwd=folder, stdout=subprocess.DEVNULL)
        yield f"postgresql://lrcs@127.0.0.1:{port}/postgres"
    finally:
        stop = [*as_user, str(place / "pg_ctl"), "-D", data, "-m", "immediate", "stop"]
        subprocess.run(stop, check=False, cwd=folder, stdout=subprocess.DEVNULL)
        shutil.rmtree(folder)


@pytest.fixture
def s3() -> Iterator[str]:
    """The address of a pretended S3 on loopback, with a bucket."""
    port = _free_port()
    command = [
        str(Path(sys.executable).with_name("moto_server")),
        "-H",
        "127.0.0.1",
        "-p",
        str(port),
    ]
    # A group of its own, which ends with it.
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    address = f"http://127.0.0.1:{port}"
    try:
        end = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < end:
            with suppress(OSError):
                urlopen(f"{address}/moto-api/", timeout=1).close()
                break
            time.sleep(0.1)
        _client(address).create_bucket(Bucket=BUCKET)
        yield address
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.mark.nightly
@pytest.mark.process
def test_a_server_on_postgresql_that_is_killed_twice_loses_and_doubles_nothing(
    postgres: str, s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables = {
        # Without its driver in it SQLAlchemy looks for another one.
        "MLFLOW_BACKEND_STORE_URI": postgres.replace("://", "+psycopg2://"),
        "MLFLOW_ARTIFACTS_DESTINATION": f"s3://{BUCKET}/runs",
        "MLFLOW_S3_ENDPOINT_URL": s3,
        "AWS_DEFAULT_REGION": "us-east-1",
        **KEYS,
    }
    server = Server(tmp_path, variables)
    with closing(psycopg2.connect(postgres)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            try:
                run_struck(server, lambda: counted_in(cursor), tmp_path, monkeypatch, kills=2)
            finally:
                server.kill()
    kept = [
        file["Key"]
        for page in _client(s3).get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
        for file in page.get("Contents", ())
    ]
    # The study's page, and of each confirmation its accuracy matrix.
    assert sum(key.endswith("/report.html") for key in kept) == 1
    assert sum(key.endswith("/accuracy_matrix.csv") for key in kept) == 2
    assert not (tmp_path / "mlflow.db").exists() and not (tmp_path / "out/mlflow.db").exists()


def _client(address: str) -> "boto3.client":
    return boto3.client(
        "s3",
        endpoint_url=address,
        region_name="us-east-1",
        aws_access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"],
    )


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
