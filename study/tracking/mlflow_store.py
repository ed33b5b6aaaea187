"""MLflow: the only file that imports mlflow for writing."""

import json
import logging
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from study.ledger import Record, StudyFolder
from study.tracking import database
from study.tracking.runs import WHOLE, DataSet, NewRun, Point
from study.tracking.tracker import SERVERS, VIEW

MOST_PER_CALL = {"metrics": 1000, "params": 100, "tags": 100}
VALUE_LENGTH = 5000
# Digests of data sets have 36 characters at most.
DIGEST_LENGTH = 36
MODEL_FOLDER = "model"
ALIAS = "confirmed"
# MLflow's ViewType.ALL.
ALL_STAGES = 3
CUT = " […]"
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

    Args:
        uri: tracking URI: of a server or of a database on this machine.
        folder: that of the study; below a database's artifacts go to `mlflow-artifacts` in it.

    Raises:
        ImportError: if mlflow is not installed.
    """

    def __init__(self, uri: str, folder: StudyFolder) -> None:
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
        self.experiment: str | None = None
        self._mlflow: Any = mlflow
        self._client: Any = None
        self._uri = uri
        self._folder = folder
        self._local = not uri.startswith(SERVERS)
        self._own = database.file_of(uri) == folder.database.resolve()
        self._study_id = ""
        # By item the id of its run, and whether that was whole when it was found.
        self._runs: dict[str, tuple[str, bool]] = {}
        # A run was asked for and not answered: it may be there or not.
        self._unanswered = False

    def answers(self) -> bool:
        """As in `Store`."""
        try:
            self._open().search_experiments(max_results=1)
        except self.errors:
            return False
        return True

    def open_experiment(self, name: str, about: str, study_id: str) -> None:
        """As in `Store`."""
        self._study_id = study_id
        client = self._open()
        known = client.get_experiment_by_name(name)
        if known is None:
            artifacts = self._folder.artifacts.resolve().as_uri()
            self.experiment = client.create_experiment(name, artifacts if self._local else None)
        else:
            self.experiment = known.experiment_id
            if known.lifecycle_stage == "deleted":
                client.restore_experiment(self.experiment)
            self._find_runs()
        client.set_experiment_tag(self.experiment, "mlflow.note.content", _cut(about))
        kind = ("mlflow.experimentKind", "custom_model_development")
        client.set_experiment_tag(self.experiment, *kind)

    def show(self, columns: Sequence[str], charts: Sequence[str]) -> None:
        """As in `Store`."""
        view = json.dumps({"selectedColumns": list(columns), **_charts(charts)})
        self._client.set_experiment_tag(self.experiment, f"mlflow.sharedViewState.{VIEW}", view)

    def open_run(self, new: NewRun) -> tuple[str, bool]:
        """As in `Store`."""
        if self._unanswered:
            self._find_runs()
            self._unanswered = False
        if new.item in self._runs:
            run, whole = self._runs[new.item]
            if whole:
                return run, True
            self.set_status(run, "RUNNING")
        else:
            tags = {**new.tags, "study_id": self._study_id, "study_item": new.item}
            if new.parent is not None:
                tags["mlflow.parentRunId"] = new.parent
            self._unanswered = True
            made = self._client.create_run(
                self.experiment, _stamp(new.record), _text(tags), _cut(new.name)
            )
            self._unanswered = False
            run = made.info.run_id
            self._runs[new.item] = run, False
        param = self._mlflow.entities.Param
        self._log(run, "params", [param(*pair) for pair in _text(new.params).items()])
        if new.data is not None:
            self._log_data(run, new.data)
        return run, False

    def set_status(self, run: str, status: str, end: Record | None = None) -> None:
        """As in `Store`."""
        if end is None:
            self._client.update_run(run, status=status)
        else:
            self._client.set_terminated(run, status, _stamp(end))

    def write_metrics(self, run: str, points: Iterable[Point]) -> None:
        """As in `Store`, in as few calls as MLflow takes: each costs more than its metrics."""
        metric = self._mlflow.entities.Metric
        values = [
            metric(key, value, _stamp(point.at), point.step)
            for point in points
            for key, value in point.metrics.items()
        ]
        self._log(run, "metrics", values)

    def write_tags(self, run: str, tags: Mapping[str, Any]) -> None:
        """As in `Store`."""
        tag = self._mlflow.entities.RunTag
        self._log(run, "tags", [tag(*pair) for pair in _text(tags).items()])

    def attach(self, run: str, name: str, content: str | Callable[[], object]) -> None:
        """As in `Store`."""
        if isinstance(content, str):
            self._client.log_text(run, content, name)
        else:
            self._client.log_figure(run, content(), name)

    def register_model(self, run: str, folder: str, name: str, tags: Mapping[str, Any]) -> None:
        """As in `Store`: one registered model, one version for each run, the newest aliased.

        Where artifacts lie on the disk of the files, they are linked and not copied.
        """
        client, files = self._client, self._folder.model_files(folder)
        place = client.get_run(run).info.artifact_uri
        if self._local and place.startswith("file:"):
            _link(files, Path(unquote(urlsplit(place).path)) / MODEL_FOLDER)
        else:
            for path in files:
                client.log_artifact(run, str(path), MODEL_FOLDER)
        if not client.search_registered_models(f"name = '{name}'"):
            client.create_registered_model(name, description=f"Winner of {tags['cell']}.")
        known = client.search_model_versions(f"name = '{name}'")
        versions = [int(version.version) for version in known if version.run_id == run]
        if not versions:
            made = client.create_model_version(
                name, f"{place}/{MODEL_FOLDER}", run, _text(tags), await_creation_for=0
            )
            versions = [int(made.version)]
        # The answer to the version's making can have been lost; a later study's stays.
        if max(versions) >= max((int(version.version) for version in known), default=0):
            client.set_registered_model_alias(name, ALIAS, str(max(versions)))

    def _open(self) -> Any:
        # Not sooner: it opens the database, which can fail.
        if self._client is None:
            database.make_whole(self._uri, self._mlflow, self._own)
            self._client = self._mlflow.MlflowClient(self._uri, self._uri)
            if self._own:
                self._bring_home()
        return self._client

    def _bring_home(self) -> None:
        """A study that was copied or moved has its artifacts beside it, never where it was."""
        here = self._folder.artifacts.resolve().as_uri()
        for experiment in self._client.search_experiments(view_type=ALL_STAGES):
            place = experiment.artifact_location
            # That of MLflow's own experiment, which nobody uses, is another one.
            artifacts = place.startswith("file:") and place.endswith(here.rpartition("/")[2])
            if artifacts and place != here:
                database.bring_home(self._folder.database.resolve(), place, here)

    def _find_runs(self) -> None:
        """Finds the runs of the study; what is known of them already stays."""
        page = None
        while page != "":
            runs = self._client.search_runs(
                [self.experiment], f"tags.study_id = '{self._study_id}'", page_token=page
            )
            for run in runs:
                tags = run.data.tags
                self._runs.setdefault(tags["study_item"], (run.info.run_id, WHOLE in tags))
            page = runs.token or ""

    def _log(self, run: str, kind: str, entities: Sequence[Any]) -> None:
        most = MOST_PER_CALL[kind]
        for start in range(0, len(entities), most):
            self._client.log_batch(run, **{kind: entities[start : start + most]})

    def _log_data(self, run: str, data: DataSet) -> None:
        """What a data set is, MLflow holds once for all runs; what it is used for, for each."""
        entities = self._mlflow.entities
        source = json.dumps({"data.name": data.name, "data.split_sha256": data.sha256})
        profile = json.dumps(dict(data.sizes))
        known = entities.Dataset(
            data.name, data.sha256[:DIGEST_LENGTH], "split manifest", source, profile=profile
        )
        context = entities.InputTag("mlflow.data.context", data.use)
        self._client.log_inputs(run, [entities.DatasetInput(known, [context])])


def _charts(metrics: Sequence[str]) -> dict[str, Any]:
    """Charts of cells by task, in the words of MLflow's page, the first metric's first.

    They are a section of their own before those that the page makes of all metrics. Cells are
    sorted by the first: a list in order of time shows the study alone, its cells folded up.
    """
    section = {"uuid": VIEW, "name": "Study", "display": True, "isReordered": True}
    lines = [
        {
            "uuid": f"{VIEW} {metric}",
            "type": "LINE",
            "metricSectionId": VIEW,
            "metricKey": metric,
            "xAxisKey": "step",
            "xAxisScaleType": "linear",
            "scaleType": "linear",
            "yAxisKey": "metric",
            "yAxisExpressions": [],
            "range": {},
            "useGlobalXaxisKey": True,
            "useGlobalLineSmoothing": True,
            "isGenerated": False,
            "deleted": False,
        }
        for metric in metrics
    ]
    return {
        "searchFilter": 'tags.role = "cell"',
        "orderByKey": f"metrics.`{metrics[0]}`",
        "orderByAsc": False,
        "compareRunCharts": lines,
        "compareRunSections": [section],
        "isAccordionReordered": True,
        "runsHiddenMode": "FIRST_20_RUNS",
    }


def _link(files: Sequence[Path], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for path in files:
        (folder / path.name).unlink(missing_ok=True)
        try:
            os.link(path, folder / path.name)
        except OSError:  # on another disk, or one that knows no links
            shutil.copyfile(path, folder / path.name)


def _text(values: Mapping[str, Any]) -> dict[str, str]:
    """Values as a study file would write them (null, true), cut to what MLflow takes."""
    return {
        key: _cut(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
        for key, value in values.items()
    }


def _cut(text: str) -> str:
    """As much of a text as MLflow takes; what no database takes is shown as an escape."""
    plain = text.encode("utf-8", "backslashreplace").decode("utf-8").replace("\0", "\\x00")
    whole = len(plain) <= VALUE_LENGTH
    return plain if whole else plain[: VALUE_LENGTH - len(CUT)] + CUT


def _stamp(record: Record) -> int:
    """The time of a record in milliseconds."""
    return int(record["time"] * 1000)
