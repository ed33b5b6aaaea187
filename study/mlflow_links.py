"""Where a study's MLflow store is, and how a person opens it; without importing MLflow."""

import json
import os
import shlex
import shutil
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from urllib.parse import urlencode, urlsplit
from urllib.request import urlopen

VIEW = "study"
URI_VARIABLE = "MLFLOW_TRACKING_URI"
SERVERS = ("http://", "https://")
ANSWER_SECONDS = 5


def default_uri(output: Path) -> str:
    """Returns the tracking URI that MLFLOW_TRACKING_URI names, else that of `output`'s database.

    A cluster's head runs a server, to which the process that drives a study is the only writer.
    """
    return os.environ.get(URI_VARIABLE) or f"sqlite:///{output.resolve() / 'mlflow.db'}"


def browse_command(output: Path) -> str:
    """Returns the command that opens MLflow on an output folder and, below it, the link to open.

    The link names the runs: MLflow's own first page is about something else, and empty.
    """
    uri = default_uri(output)
    view = f"workflowType=machine_learning&viewStateShareKey={VIEW}"
    if uri.startswith(SERVERS):
        runs = f"{uri.rstrip('/')}/#/experiments/{_experiment_at(uri, output)}/runs?{view}"
        place = urlsplit(uri)
        if place.hostname in ("127.0.0.1", "localhost"):
            port = place.port or 80
            return f"ray attach -p {port} CLUSTER.yaml (from elsewhere; here it runs)\n{runs}"
        return f"runs at {uri}\n{runs}"
    installed = shutil.which("mlflow")
    beside = Path(sys.executable).with_name("mlflow")
    own = installed is not None and Path(installed) == beside
    program = "mlflow" if own else f"{shlex.quote(sys.executable)} -m mlflow"
    return (
        # Without job execution and with one worker it starts in 5 seconds instead of 15.
        "MLFLOW_DISABLE_TELEMETRY=true MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false "
        f"{program} ui --workers 1 --port 5000 --backend-store-uri {shlex.quote(uri)}\n"
        f"http://127.0.0.1:5000/#/experiments/{_experiment_in(output)}/runs?{view}"
    )


def _experiment_at(uri: str, output: Path) -> str:
    """Returns the id that a server gives to the experiment of a study ("0" if it cannot say).

    Asked without MLflow, as below.
    """
    try:
        with (output / "ledger.jsonl").open(encoding="utf-8") as ledger:
            name = json.loads(ledger.readline())["name"]
        query = urlencode({"experiment_name": name})
        where = f"{uri.rstrip('/')}/api/2.0/mlflow/experiments/get-by-name?{query}"
        with urlopen(where, timeout=ANSWER_SECONDS) as answer:
            return str(json.load(answer)["experiment"]["experiment_id"])
    except (OSError, ValueError, LookupError):
        return "0"


def _experiment_in(output: Path) -> str:
    """Returns the id of the newest experiment in an output folder's database ("0" if none).

    Read without MLflow, whose import would hold up the end of a study for seconds.
    """
    path = output.resolve() / "mlflow.db"
    query = "SELECT MAX(experiment_id) FROM experiments WHERE lifecycle_stage = 'active'"
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as database:
            return str(database.execute(query).fetchone()[0] or 0)
    except sqlite3.Error:
        return "0"
