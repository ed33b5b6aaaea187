"""MLflow: the only file that imports mlflow for writing."""

import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from study import pictures
from study.ledger import Record
from study.metric_queue import MetricQueue
from study.mlflow_links import SERVERS, VIEW
from study.model_export import model_files
from study.model_registry import register
from study.run_words import finite

PAIRS_PER_CALL = 100
VALUE_LENGTH = 5000
# Digests of data sets have 36 characters at most.
DIGEST_LENGTH = 36
WHOLE = "tasks"
# Read by mlflow when it is imported; what a user has set stays. It must not repeat a request by
# itself: a run whose making was answered too late would be there twice.
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
}


class MLflowStore:
    """Implements `Store` with MlflowClient and no global state.

    Every run carries the tags `study_id` and `study_item`, by which a later process finds it.
    A metric written again is kept once, since its time is the record's and not the clock's.
    Metrics are kept back, so that those of several tasks can go in one call.

    Args:
        uri: tracking URI: of a server or of a database on this machine.
        output: the study's folder; below a database's artifacts go to `mlflow-artifacts` in it.

    Raises:
        ImportError: if mlflow is not installed.
    """

    def __init__(self, uri: str, output: Path) -> None:
        for key, value in ENVIRONMENT.items():
            os.environ.setdefault(key, value)
        import mlflow
        from sqlalchemy.exc import SQLAlchemyError

        for name in ("alembic", "mlflow.store.db.utils"):
            logging.getLogger(name).setLevel(logging.WARNING)
        self.errors: tuple[type[Exception], ...] = (
            mlflow.exceptions.MlflowException,
            OSError,
            # Of a database that cannot be opened.
            SQLAlchemyError,
        )
        self._mlflow: Any = mlflow
        self._client: Any = None
        self._uri = uri
        self._output = output
        self._local = not uri.startswith(SERVERS)
        self._experiment = ""
        self._study_id = ""
        self._runs: dict[str, str] = {}
        self._whole: set[str] = set()
        # Items whose run was asked for and not answered: it may be there or not.
        self._unsure: set[str] = set()
        self._metrics = MetricQueue(self._send)

    def answers(self) -> bool:
        """Whether the store can be reached."""
        try:
            self._open().search_experiments(max_results=1)
        except self.errors:
            return False
        return True

    def begin(self) -> None:
        """Begins a write: what it fails at is not what an earlier one failed at."""
        self._metrics.begin()

    def skip(self) -> bool:
        """Holds back the metrics that the store has refused; whether it was metrics.

        A run whose metrics are given up (see `MetricQueue`) is never marked whole.
        """
        return self._metrics.skip()

    def missing(self) -> set[int]:
        """Returns the times (ms) of the records whose metrics were kept back or given up."""
        return self._metrics.missing()

    def open_experiment(self, name: str, about: str, study_id: str) -> None:
        """As in `Store`."""
        self._study_id = study_id
        client = self._open()
        found = client.get_experiment_by_name(name)
        if found is None:
            artifacts = (self._output / "mlflow-artifacts").resolve().as_uri()
            self._experiment = client.create_experiment(name, artifacts if self._local else None)
        else:
            self._experiment = found.experiment_id
            if found.lifecycle_stage == "deleted":
                client.restore_experiment(self._experiment)
            self._find_runs()
        client.set_experiment_tag(self._experiment, "mlflow.note.content", about)
        kind = ("mlflow.experimentKind", "custom_model_development")
        client.set_experiment_tag(self._experiment, *kind)

    def show_columns(self, columns: Sequence[str]) -> None:
        """As in `Store`."""
        view = json.dumps({"selectedColumns": list(columns)})
        self._client.set_experiment_tag(self._experiment, f"mlflow.sharedViewState.{VIEW}", view)

    def open_run(
        self, item: str, name: str, parent: str | None, tags: Mapping[str, Any], record: Record
    ) -> str:
        """As in `Store`."""
        if item in self._unsure:
            self._find_runs()
            self._unsure.discard(item)
        if item not in self._runs:
            every = {**tags, "study_id": self._study_id, "study_item": item}
            if parent is not None:
                every["mlflow.parentRunId"] = parent
            self._unsure.add(item)
            made = self._client.create_run(self._experiment, _stamp(record), _text(every), name)
            self._unsure.discard(item)
            self._runs[item] = made.info.run_id
        elif item not in self._whole:
            self.set_status(self._runs[item], "RUNNING", None)
        return self._runs[item]

    def is_whole(self, item: str) -> bool:
        """As in `Store`."""
        return item in self._whole

    def set_status(self, run: str, status: str, record: Record | None) -> None:
        """As in `Store`."""
        if record is None:
            self._client.update_run(run, status=status)
        else:
            self._client.set_terminated(run, status, _stamp(record))

    def mark_whole(self, run: str, tasks: int) -> None:
        """As in `Store`; not where metrics of the run were given up."""
        self._metrics.flush_run(run)
        if not self._metrics.is_lost(run):
            self._client.set_tag(run, WHOLE, str(tasks))

    def write_metrics(self, run: str, metrics: Mapping[str, float], step: int, at: Record) -> None:
        """As in `Store`."""
        make = self._mlflow.entities.Metric
        self._metrics.add(
            run, [make(key, value, _stamp(at), step) for key, value in metrics.items()]
        )

    def flush(self) -> None:
        """As in `Store`; without those that are held back."""
        self._metrics.flush()

    def write_params(self, run: str, params: Mapping[str, Any]) -> None:
        """As in `Store`."""
        pairs = [self._mlflow.entities.Param(*one) for one in _text(params).items()]
        for start in range(0, len(pairs), PAIRS_PER_CALL):
            self._client.log_batch(run, params=pairs[start : start + PAIRS_PER_CALL])

    def write_tags(self, run: str, tags: Mapping[str, Any]) -> None:
        """As in `Store`."""
        pairs = [self._mlflow.entities.RunTag(*one) for one in _text(tags).items()]
        for start in range(0, len(pairs), PAIRS_PER_CALL):
            self._client.log_batch(run, tags=pairs[start : start + PAIRS_PER_CALL])

    def write_data(
        self, run: str, name: str, sha256: str, sizes: Mapping[str, int], use: str
    ) -> None:
        """As in `Store`."""
        entities = self._mlflow.entities
        source = json.dumps({"data.name": name, "data.split_sha256": sha256})
        profile = json.dumps(dict(sizes))
        data = entities.Dataset(
            name, sha256[:DIGEST_LENGTH], "split manifest", source, profile=profile
        )
        context = entities.InputTag("mlflow.data.context", use)
        self._client.log_inputs(run, [entities.DatasetInput(data, [context])])

    def attach_yaml(self, run: str, name: str, plain: Mapping[str, Any]) -> None:
        """As in `Store`."""
        # Through JSON, as in the ledger: safe_dump refuses tuples.
        text = yaml.safe_dump(
            json.loads(json.dumps(dict(plain))), sort_keys=False, allow_unicode=True
        )
        self._client.log_text(run, text, name)

    def attach_results(self, run: str, name: str, rank: Any, tasks: Mapping[int, Record]) -> None:
        """As in `Store`."""
        rows = [tasks[task]["accuracy_row"] for task in sorted(tasks)]
        self._client.log_text(run, pictures.accuracy_csv(rows), "accuracy_matrix.csv")
        self._client.log_figure(run, pictures.accuracy_picture(rows, name), "accuracy_matrix.png")
        metrics = {task: finite(record["metrics"]) for task, record in tasks.items()}
        if layers := pictures.free_dimensions(metrics):
            figure = pictures.free_dimensions_picture(layers, rank, name)
            self._client.log_figure(run, figure, "free_dimensions.png")

    def attach_front(
        self,
        run: str,
        title: str,
        objective: Mapping[str, str],
        tried: Sequence[Mapping[str, float]],
        front: Mapping[int, Mapping[str, float]],
    ) -> None:
        """As in `Store`."""
        from study.analysis.fronts import front_picture

        self._client.log_figure(run, front_picture(objective, tried, front, title), "front.png")

    def register_model(self, run: str, folder: str, name: str, tags: Mapping[str, Any]) -> None:
        """As in `Store`: one registered model, one version for each run, the newest aliased."""
        files = model_files(self._output, folder)
        register(self._client, run, files, name, _text(tags), self._local)

    def _open(self) -> Any:
        # Not sooner: it opens the database, which can fail.
        self._client = self._client or self._mlflow.MlflowClient(self._uri, self._uri)
        return self._client

    def _find_runs(self) -> None:
        """Finds the runs of the study, and those that had come to their end in the store."""
        page = None
        while page != "":
            runs = self._client.search_runs(
                [self._experiment], f"tags.study_id = '{self._study_id}'", page_token=page
            )
            for run in runs:
                item = run.data.tags["study_item"]
                if item not in self._runs and WHOLE in run.data.tags:
                    self._whole.add(item)
                self._runs.setdefault(item, run.info.run_id)
            page = runs.token or ""

    def _send(self, run: str, points: list[Any]) -> None:
        self._client.log_batch(run, metrics=points)


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
