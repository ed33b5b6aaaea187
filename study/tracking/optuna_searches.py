"""Optuna: the searches of a study in a storage that optuna-dashboard and its figures read."""

import datetime
import functools
import json
import logging
import math
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from study.errors import MistakeError
from study.ledger import History, Record, StudyFolder, TrialHistory, whole_lines
from study.tracking.tracker import without_secrets

if TYPE_CHECKING:
    from optuna import Study

# Of a ledger's words for how a trial has ended for good.
STATES = {"completed": "COMPLETE", "pruned": "PRUNED", "failed": "FAIL"}
# The attribute of a trial by which it is found again.
TRIAL = "trial"
# The attribute with settings that are no point of the ranges.
OUTSIDE = "outside of the ranges"
# Of an error in an attribute, which some databases keep short.
ERROR_LENGTH = 400


class RefusedError(Exception):
    """A storage does not take a trial; its cause says why."""


class OptunaSearches:
    """Writes each cell's search as a study of Optuna, a trial when it has ended.

    States, values and intermediate values are those that the search decided by; attributes say how
    a trial ended and what it measured last. What is there already stays single.

    `problem` says what is wrong with the storage; None where it has all that was read of the
    ledger. `written` counts trials that were new to it, `ended` those that it has to have.

    Args:
        folder: that of the study, whose name begins the names of its cells' studies.
        url: the storage; None: that of `tracking` in the study file, and none without one.
    """

    def __init__(self, folder: StudyFolder, url: str | None = None) -> None:
        self.problem: str | None = None
        self.written = self.ended = 0
        self._folder = folder
        self._url = url
        self._history = History(str(folder.ledger))
        self._began: dict[str, float] = {}
        # By cell, its study and the trials that it has.
        self._studies: dict[str, tuple[Study, set[Any]]] = {}
        self._storage: Any = None
        self._offset = self._read = 0

    def catch_up(self) -> None:
        """Reads what the ledger has more, and writes the trials that it ends.

        Where the storage does not take one, it is the first of the next time.

        Raises:
            ValueError: at a line that is no record, naming the file.
        """
        if not self._folder.ledger.exists():
            return
        try:
            for record, line in whole_lines(self._folder.ledger, self._offset, self._read):
                self._take(record)
                self._offset += len(line)
                self._read += 1
        except RefusedError as refused:
            error = refused.__cause__
            said = " ".join(f"{type(error).__name__}: {error}".split())[:ERROR_LENGTH]
            shown = without_secrets(self._url or "")
            self.problem = (
                f"Optuna's storage {shown} does not take the searches: "
                f"{without_secrets(self._url or '', said)}"
            )
        else:
            self.problem = None

    def _take(self, record: Record) -> None:
        kind = record["kind"]
        if kind in ("study", "resumed", "cell"):
            self._history.add(record)
            tracking = record.get("spec", {}).get("tracking")
            if self._url is None and isinstance(tracking, Mapping):
                self._url = tracking.get("optuna")
        elif kind == "trial" and record["role"] == "search":
            self._history.add(record)
            self._began.setdefault(record["trial"], record["time"])
        elif kind in ("task", "end", "continued") and record["trial"] in self._began:
            self._history.add(record)
            trial = self._history.trials[record["trial"]]
            if kind == "end" and trial.status in STATES and self._url is not None:
                try:
                    self._write(trial, record["time"])
                # Storages raise errors of Optuna, SQLAlchemy and drivers, or of a wrong URL.
                except Exception as error:
                    raise RefusedError from error

    def _write(self, trial: TrialHistory, now: float) -> None:
        study, known = self._study_of(trial.cell)
        if trial.trial not in known:
            study.add_trial(self._frozen(trial, now))
            known.add(trial.trial)
            self.written += 1
        self.ended += 1
        self._history.forget_metrics(trial.trial)

    def _frozen(self, trial: TrialHistory, now: float) -> Any:
        import optuna

        values = [trial.last(metric) for metric in self._modes]
        numbers = [value for value in values if value is not None and math.isfinite(value)]
        state = STATES[trial.status]
        if state == "COMPLETE" and len(numbers) < len(values):
            state = "FAIL"
        # A ledger of an old release has no ranges.
        ranges = {
            key: optuna.distributions.json_to_distribution(json.dumps(searched["distribution"]))
            for key, searched in self._history.cells[trial.cell].search.items()
            if key in trial.searched and "distribution" in searched
        }
        make = functools.partial(
            optuna.create_trial,
            state=optuna.trial.TrialState[state],
            values=numbers if state == "COMPLETE" else None,
            intermediate_values=_curve(trial, *self._modes) if len(values) == 1 else None,
        )
        settings = {key: trial.searched[key] for key in ranges}
        try:
            found = make(params=settings, distributions=ranges, user_attrs=_about(trial))
        except ValueError:
            # Tried, though the ranges do not have it: then it is nothing that figures could place.
            found = make(user_attrs={**_about(trial), OUTSIDE: json.dumps(dict(trial.searched))})
        found.datetime_start = datetime.datetime.fromtimestamp(self._began[trial.trial])
        found.datetime_complete = datetime.datetime.fromtimestamp(now)
        return found

    def _study_of(self, cell: str) -> "tuple[Study, set[Any]]":
        """The study of a cell, which is made where the storage has none, and its trials."""
        import optuna

        if self._storage is None:
            for name in ("alembic", "optuna"):
                logging.getLogger(name).setLevel(logging.WARNING)
            self._storage = optuna.storages.get_storage(self._url)
        if cell not in self._studies:
            modes = self._modes.values()
            study = optuna.create_study(
                storage=self._storage,
                study_name=f"{self._folder.path.resolve().name}: {cell}",
                directions=["minimize" if mode == "min" else "maximize" for mode in modes],
                load_if_exists=True,
            )
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                study.set_metric_names(list(self._modes))
            study.set_user_attr("cell", cell)
            trials = study.get_trials(deepcopy=False)
            self._studies[cell] = study, {trial.user_attrs.get(TRIAL) for trial in trials}
        return self._studies[cell]

    @property
    def _modes(self) -> Mapping[str, str]:
        """Objectives to max or min."""
        known = self._history.study
        return (known and known.spec.get("objective")) or {"val/accuracy": "max"}


def write_searches(folder: StudyFolder, url: str) -> tuple[int, int]:
    """Writes the searches of a study's folder; how many trials were new, and how many there are.

    Raises:
        MistakeError: if the storage cannot be opened or written to; if the folder's ledger is
            missing, broken or of a newer version.
    """
    searches = OptunaSearches(folder, url)
    try:
        searches.catch_up()
    except ValueError as error:
        raise MistakeError(str(error)) from error
    if searches.problem is not None:
        raise MistakeError(f"{searches.problem}.")
    return searches.written, searches.ended


def _curve(trial: TrialHistory, metric: str) -> dict[int, float]:
    """A metric by tasks seen, where it is a number."""
    curve = {task: metrics.get(metric) for task, metrics in sorted(trial.curve.items())}
    return {
        task: value for task, value in curve.items() if value is not None and math.isfinite(value)
    }


def _about(trial: TrialHistory) -> dict[str, Any]:
    """What is known of a trial beside its settings, measurements but for those of layers."""
    error = None if trial.error is None else trial.error[:ERROR_LENGTH]
    told = {"status": trial.status, "tasks": trial.task, "reason": trial.reason, "error": error}
    measured = {
        key: value
        for key, value in sorted(trial.curve.get(trial.task, {}).items())
        if key.count("/") == 1 and math.isfinite(value)
    }
    about = {TRIAL: trial.trial, **told, **measured}
    return {key: value for key, value in about.items() if value is not None}
