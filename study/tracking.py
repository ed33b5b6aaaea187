"""MLflow: the only file that imports mlflow for writing.

`import mlflow` takes seconds and a server can be slow or away. So both happen in one background
thread: importing this file is quick, and handing a record over never waits. What was lost while
a server was away is in the ledger; `replay` writes it, and writes nothing twice.
"""

import json
import logging
import os
import queue
import shlex
import shutil
import sqlite3
import sys
import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit
from urllib.request import urlopen

import yaml

from study import pictures
from study.ledger import Record
from study.run_tree import RunTree
from study.run_words import finite

PAIRS_PER_CALL = 100
METRICS_PER_CALL = 1000
VALUE_LENGTH = 5000
VIEW = "study"
URI_VARIABLE = "MLFLOW_TRACKING_URI"
SERVERS = ("http://", "https://")
ANSWER_SECONDS = 5
UNEXPECTED = (ValueError, TypeError, RuntimeError, AttributeError, ArithmeticError)
# Read by mlflow when it is imported; what a user has set stays.
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
}


class Tracker:
    """Writes a study's records to an MLflow store from a background thread.

    It takes the records of the ledger in their order, each with its `time`. Tracking never fails
    a study: the first problem is kept in `failure` and later records are still tried.

    Args:
        uri: tracking URI of MLflow; see `default_uri`.
        artifacts: folder for artifacts, used where `uri` is a database and not a server.
    """

    def __init__(self, uri: str, artifacts: Path) -> None:
        self.failure: str | None = None
        self._uri = uri
        self._artifacts = artifacts
        self._queue: queue.SimpleQueue[Record | None] = queue.SimpleQueue()
        self._drained = False
        # A daemon: a server that hangs must not keep the process from ending.
        self._thread = threading.Thread(target=self._work, name="mlflow-writer", daemon=True)
        self._thread.start()

    def write(self, record: Record) -> None:
        """Queues a record and returns at once.

        Raises:
            ValueError: if the record has no "time": the ledger's and MLflow's must be the same.
        """
        if "time" not in record:
            raise ValueError(f"a tracked record must have a 'time', but got {sorted(record)}.")
        self._queue.put(record)

    def close(self, timeout: float) -> bool:
        """Waits up to `timeout` seconds for the queue; True when every record was written."""
        self._queue.put(None)
        self._thread.join(timeout)
        if not self._drained and self.failure is None:
            self.failure = f"MLflow did not take every record within {timeout:g} seconds."
        return self.failure is None

    def _work(self) -> None:
        try:
            store = _MLflowStore(self._uri, self._artifacts)
        except ImportError as error:
            self._fail("any record", error)
            return
        tree = RunTree(store)
        while (record := self._queue.get()) is not None:
            try:
                tree.write(record)
            # The errors of a server's connection are OSErrors, those of a database are MLflow's.
            # A KeyError: the record is about a cell or trial that was never announced.
            # The others: a record that json or matplotlib cannot take.
            except (store.error, OSError, LookupError, *UNEXPECTED) as error:
                self._fail(f"a record of kind {record['kind']!r}", error)
        self._drained = True

    def _fail(self, what: str, error: Exception) -> None:
        if self.failure is None:
            text = " ".join(f"{type(error).__name__}: {error}".split())
            self.failure = f"MLflow could not take {what}: {text[:400].rstrip('.')}."


def replay(records: Iterable[Record], tracker: Tracker) -> None:
    """Hands the records of a ledger to a tracker; what the store holds already stays single."""
    for record in records:
        tracker.write(record)


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


class _MLflowStore:
    """Implements `Store` with MlflowClient and no global state.

    Every run carries the tags `study_id` and `study_item`, by which a later process finds it.
    A metric written again is kept once, since its time is the record's and not the clock's.

    Raises:
        ImportError: if mlflow is not installed.
    """

    def __init__(self, uri: str, artifacts: Path) -> None:
        for key, value in ENVIRONMENT.items():
            os.environ.setdefault(key, value)
        import mlflow

        logging.getLogger("alembic").setLevel(logging.WARNING)
        self.error: type[Exception] = mlflow.exceptions.MlflowException
        self._mlflow: Any = mlflow
        self._client: Any = None
        self._uri = uri
        server = uri.startswith(SERVERS)
        self._artifacts = None if server else artifacts.resolve().as_uri()
        self._experiment = ""
        self._study_id = ""
        self._runs: dict[str, str] = {}

    def open_experiment(self, name: str, about: str, study_id: str) -> None:
        self._study_id = study_id
        # Not sooner: it opens the database, and what that raises belongs to a record.
        self._client = self._client or self._mlflow.MlflowClient(self._uri, self._uri)
        found = self._client.get_experiment_by_name(name)
        if found is None:
            self._experiment = self._client.create_experiment(name, self._artifacts)
        else:
            self._experiment = found.experiment_id
            if found.lifecycle_stage == "deleted":
                self._client.restore_experiment(self._experiment)
            page = None
            while page != "":
                runs = self._client.search_runs(
                    [self._experiment], f"tags.study_id = '{study_id}'", page_token=page
                )
                self._runs |= {run.data.tags["study_item"]: run.info.run_id for run in runs}
                page = runs.token or ""
        self._client.set_experiment_tag(self._experiment, "mlflow.note.content", about)
        kind = ("mlflow.experimentKind", "custom_model_development")
        self._client.set_experiment_tag(self._experiment, *kind)

    def show_columns(self, columns: Sequence[str]) -> None:
        view = json.dumps({"selectedColumns": list(columns)})
        self._client.set_experiment_tag(self._experiment, f"mlflow.sharedViewState.{VIEW}", view)

    def open_run(
        self, item: str, name: str, parent: str | None, tags: Mapping[str, Any], record: Record
    ) -> str:
        if item in self._runs:
            self.set_status(self._runs[item], "RUNNING", None)
        else:
            every = {**tags, "study_id": self._study_id, "study_item": item}
            if parent is not None:
                every["mlflow.parentRunId"] = parent
            made = self._client.create_run(self._experiment, _stamp(record), _text(every), name)
            self._runs[item] = made.info.run_id
        return self._runs[item]

    def set_status(self, run: str, status: str, record: Record | None) -> None:
        if record is None:
            self._client.update_run(run, status=status)
        else:
            self._client.set_terminated(run, status, _stamp(record))

    def write_metrics(self, run: str, metrics: Mapping[str, float], step: int, at: Record) -> None:
        make = self._mlflow.entities.Metric
        points = [make(key, value, _stamp(at), step) for key, value in metrics.items()]
        for start in range(0, len(points), METRICS_PER_CALL):
            self._client.log_batch(run, metrics=points[start : start + METRICS_PER_CALL])

    def write_params(self, run: str, params: Mapping[str, Any]) -> None:
        pairs = [self._mlflow.entities.Param(*one) for one in _text(params).items()]
        for start in range(0, len(pairs), PAIRS_PER_CALL):
            self._client.log_batch(run, params=pairs[start : start + PAIRS_PER_CALL])

    def write_tags(self, run: str, tags: Mapping[str, Any]) -> None:
        pairs = [self._mlflow.entities.RunTag(*one) for one in _text(tags).items()]
        for start in range(0, len(pairs), PAIRS_PER_CALL):
            self._client.log_batch(run, tags=pairs[start : start + PAIRS_PER_CALL])

    def attach_spec(self, run: str, spec: Mapping[str, Any], name: str) -> None:
        # Through JSON, as in the ledger: safe_dump refuses tuples.
        plain = json.loads(json.dumps(dict(spec)))
        text = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)
        self._client.log_text(run, text, name)

    def attach_results(self, run: str, name: str, rank: Any, tasks: Mapping[int, Record]) -> None:
        # log_table appends to a table that exists; written last, it shows that all are there.
        if any(file.path == "accuracy_matrix.json" for file in self._client.list_artifacts(run)):
            return
        rows = [tasks[task]["accuracy_row"] for task in sorted(tasks)]
        self._client.log_text(run, pictures.accuracy_csv(rows), "accuracy_matrix.csv")
        self._client.log_figure(run, pictures.accuracy_picture(rows, name), "accuracy_matrix.png")
        metrics = {task: finite(record["metrics"]) for task, record in tasks.items()}
        if layers := pictures.free_dimensions(metrics):
            figure = pictures.free_dimensions_picture(layers, rank, name)
            self._client.log_figure(run, figure, "free_dimensions.png")
        self._client.log_table(run, pictures.accuracy_columns(rows), "accuracy_matrix.json")

    def attach_front(
        self,
        run: str,
        title: str,
        objective: Mapping[str, str],
        tried: Sequence[Mapping[str, float]],
        front: Mapping[int, Mapping[str, float]],
    ) -> None:
        from study.analysis.fronts import front_picture

        self._client.log_figure(run, front_picture(objective, tried, front, title), "front.png")


def _text(values: Mapping[str, Any]) -> dict[str, str]:
    """Values as a study file would write them (null, true), cut to what MLflow takes."""
    return {
        key: (value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))[
            :VALUE_LENGTH
        ]
        for key, value in values.items()
    }


def _stamp(record: Record) -> int:
    """The time of a record in milliseconds."""
    return int(record["time"] * 1000)


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
