"""Every kind of record that a ledger holds, as the function that makes it.

A record has the function's arguments as its entries, and `Ledger.append` adds the `time` (unix
seconds). What an older release would misread has the next `VERSION`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from study.ledger.contrasts import ContrastRecord

Record: TypeAlias = dict[str, Any]
Setting: TypeAlias = Mapping[str, Any]
Status: TypeAlias = Literal["completed", "pruned", "failed", "interrupted"]
Metrics: TypeAlias = Mapping[str, float | None]

VERSION = 2


@dataclass(frozen=True)
class SessionFacts:
    """What one run of the driver works with.

    `spec` is the study file's content; `chance` the accuracy of guessing, where all cells agree on
    it; `data` the sha256 of each data set's split, `splits` by that hash its numbers of classes
    and of images. `contrasts` are what is compared, `margin` the difference that is not to matter.
    """

    spec: Mapping[str, Any]
    versions: Mapping[str, str]
    commit: str | None
    host: str
    machine: Mapping[str, Any]
    chance: float | None
    data: Mapping[str, str]
    splits: Mapping[str, Mapping[str, int]]
    contrasts: Sequence[ContrastRecord] = ()
    margin: float = 1.0

    def entries(self) -> Record:
        """Its entries in the record of a session."""
        return {**vars(self), "contrasts": [vars(contrast) for contrast in self.contrasts]}


def study(name: str, question: str, facts: SessionFacts, once: bool = False) -> Record:
    """The first record of a ledger; `once`: of one configuration, without a search."""
    about = {"kind": "study", "name": name, "question": question, "version": VERSION}
    return {**about, **facts.entries(), **({"once": True} if once else {})}


def resumed(facts: SessionFacts) -> Record:
    """The first record of a later session."""
    return {"kind": "resumed", "version": VERSION, **facts.entries()}


def cell(
    cell: str,
    key: Setting,
    fixed: Setting,
    search: Mapping[str, Mapping[str, Any]],
    tasks: int,
    search_tasks: int,
    seeds: Sequence[int],
    tuned_in: str | None = None,
    published: Sequence[Mapping[str, Any]] = (),
) -> Record:
    """A cell of the grid, before its first trial, and again when a later session changes it.

    `search` has, by key, `distribution` (Optuna's JSON) and, where the key is searched only with
    certain values of others, `when`. `published` are results of papers for the cell's method,
    data and tasks.
    """
    return {"kind": "cell", **locals()}


def trial(
    trial: str,
    cell: str,
    role: str,
    params: Setting,
    searched: Setting,
    seed: int,
    tasks: int,
    gpus: float = 0.0,
    sampler: Mapping[str, Any] | None = None,
    of: str | None = None,
) -> Record:
    """A trial that is handed out for the first time.

    `tasks` is how many it sees if nothing ends it before, `gpus` what it takes of a GPU, `sampler`
    what its search has to be reminded of; `of` is, for a confirmation, the search trial with the
    same settings.
    """
    return {"kind": "trial", **locals()}


def continued(trial: str, from_task: int, problem: str | None = None, gpus: float = 0.0) -> Record:
    """A trial that is handed out again; `problem` is what is wrong with its checkpoint."""
    return {"kind": "continued", **locals()}


def task(
    trial: str,
    task: int,
    metrics: Metrics,
    accuracy_row: Sequence[float | None],
    host: str | None = None,
    device: str | None = None,
) -> Record:
    """What a trial measured after `task` tasks; `accuracy_row` is the accuracy on tasks 1..task.

    It is empty, and no metric is of accuracies, where the trial was not evaluated.
    """
    return {"kind": "task", **locals()}


def checkpoint(trial: str, task: int, path: str, files: Mapping[str, int]) -> Record:
    """A checkpoint that is safe: its folder within the study's, and the bytes of its files."""
    return {"kind": "checkpoint", **locals()}


def end(
    trial: str,
    status: Status,
    error: str | None = None,
    reason: str | None = None,
    retries: int = 0,
) -> Record:
    """The end of a trial, for now (interrupted) or for good.

    Of a failed one `error` is the message and `reason` is diverged, out_of_memory, error or died;
    `retries` is how often it was started again.
    """
    return {"kind": "end", **locals()}


def winner(
    cell: str,
    trial: str,
    searched: Setting,
    value: float | None,
    objective: str,
    values: Metrics,
) -> Record:
    """The setting that a cell's search chose; `values` are its objectives, `value` the first."""
    return {"kind": "winner", **locals()}


def front(cell: str, points: Sequence[tuple[str, Setting, Metrics]]) -> Record:
    """The settings on a cell's Pareto front: of each the trial, the setting, its objectives."""
    named = [
        {"trial": trial, "searched": dict(searched), "values": dict(values)}
        for trial, searched, values in points
    ]
    return {"kind": "front", "cell": cell, "points": named}


def failed_cell(cell: str, error: str) -> Record:
    """A cell whose search found no winner, and why."""
    return {"kind": "failed_cell", **locals()}


def look(
    contrast: str,
    seeds: Sequence[int],
    mean: float,
    std: float,
    low: float,
    high: float,
    verdict: str,
    reason: str,
    by_less_than_margin: bool,
    non_inferior: bool,
    next_seeds: Sequence[int],
    of: Sequence[str | None],
) -> Record:
    """A look at a contrast, when the last trial has ended that it waited for.

    See `study.evidence.Look`; numbers are in the unit of the margin. `of` names the two search
    trials whose settings are compared, None for a cell without a winner.
    """
    return {"kind": "look", **locals()}


def note(cell: str, text: str) -> Record:
    """What a person should know of a cell's search."""
    return {"kind": "note", **locals()}


def warning(text: str) -> Record:
    """What a person should know of the study's data before believing its numbers."""
    return {"kind": "warning", **locals()}


def estimate(
    source: str,
    trials: float | None = None,
    trial_hours: float | None = None,
    most_trial_hours: float | None = None,
    gpu_hours: float | None = None,
    wall_hours: float | None = None,
    storage_bytes: float | None = None,
    device_bytes: float | None = None,
) -> Record:
    """What the study should cost; None where that is not known. `source` is what tells so."""
    return {"kind": "estimate", **locals()}


def model(cell: str, trial: str, folder: str, size: int, sha256: str) -> Record:
    """Merged weights of a winner: their folder within the study's, bytes, and hash."""
    about = {"kind": "model", "cell": cell, "trial": trial, "folder": folder}
    return {**about, "bytes": size, "sha256": sha256}


def finished(status: Literal["completed", "interrupted"], wall_seconds: float) -> Record:
    """The last record of a session."""
    return {"kind": "finished", **locals()}
