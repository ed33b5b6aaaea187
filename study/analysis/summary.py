"""One summary a cell, the differences in its group of cells, and who is highest there."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from study.analysis import curves
from study.analysis.curves import Exhaustion
from study.evidence import Comparison, Interval, intervals
from study.ledger import (
    METHOD,
    TASKS,
    CellRecord,
    StudyRecords,
    TrialRecord,
    cell_label,
    contender_keys,
    shown_keys,
    varying_keys,
)
from trainables.config import catalog

ALL = "all"
"""The group of a study whose cells differ in nothing but in what is compared."""
# Of a trial's data, what does not make its task another one.
SAME_DATA = ("data.evaluation", "data.root", "data.cache", "data.manifest")
SPLIT = "data.split_sha256"
HASH_LENGTH = 8
TIE = 1e-9


@dataclass(frozen=True)
class CellSummary:
    """What a cell came to.

    `contender` is what it is compared under, with the other cells of its `group`: the method where
    methods vary, else the settings that do, which are `own`; `shared` is the rest of its key.

    `reference` says what the method shows, where it is a reference point and not under study.
    `tuned_in` is the label of the cell whose search found the setting, where that is another one.

    The intervals are over the completed confirmation trials (`confirmed`), on test images;
    `ended` counts search trials by status; `seconds` and `compute_seconds` are over all trials.
    """

    cell: str
    label: str
    group: str
    contender: str
    own: Mapping[str, Any]
    shared: Mapping[str, Any]
    method: str
    reference: str | None
    tasks: int | None
    search_tasks: int | None
    tuned_in: str | None
    chance: float | None
    setting: Mapping[str, Any]
    finals: Mapping[int, float]
    final: Interval
    average_anytime: Interval
    forgetting: Interval
    plasticity: Interval
    objective: str
    search_value: float | None
    ended: Mapping[str, int]
    confirmed: tuple[TrialRecord, ...]
    exhausted: tuple[Exhaustion, ...]
    empty: tuple[Exhaustion, ...]
    compute_seconds: float
    seconds: float

    @property
    def beside_tasks(self) -> dict[str, Any]:
        """What it shares with others, but for the number of tasks."""
        return {key: value for key, value in self.shared.items() if key != TASKS}

    @property
    def has_subspace(self) -> bool:
        """Whether the method keeps track of used and free dimensions at all."""
        return bool(curves.layers(self.confirmed))

    @property
    def searched(self) -> int:
        """Number of search trials that came to an end."""
        return sum(count for status, count in self.ended.items() if status != "running")


@dataclass(frozen=True)
class Standing:
    """The highest mean final accuracy of a group of cells, among what is under study.

    `best` are the names with that mean, `others` the rest of the group. `references_above` are
    reference points whose mean is at least as high, with it; `chance` is the accuracy of guessing.
    """

    group: str
    best: tuple[str, ...]
    final: Interval
    chance: float | None
    others: tuple[str, ...]
    references_above: tuple[tuple[str, float], ...]

    @property
    def name(self) -> str:
        """The first of the best and where it leads."""
        return f"{self.best[0]}, {self.group}"


def summarise(study: StudyRecords) -> list[CellSummary]:
    """Summarises every cell, those of one group beside each other, in the order of the ledger."""
    keys = shown_keys([(cell.key, cell.fixed) for cell in study.cells])
    varying, compared = varying_keys(keys), contender_keys(keys)
    labels: dict[str | None, str] = {
        cell.cell: cell_label(key, varying) for cell, key in zip(study.cells, keys, strict=True)
    }
    summaries = [
        _summarise(study, cell, key, varying, compared, labels)
        for cell, key in zip(study.cells, keys, strict=True)
    ]
    groups = list(dict.fromkeys(summary.group for summary in summaries))
    return sorted(summaries, key=lambda summary: groups.index(summary.group))


def compare_methods(cells: Sequence[CellSummary]) -> list[Comparison]:
    """Differences within each group, of final accuracy on the same seeds.

    Neither two reference points are compared nor settings that differ in several keys.
    """
    groups: dict[str, dict[str, Mapping[int, float]]] = {}
    for cell in cells:
        groups.setdefault(cell.group, {})[cell.contender] = cell.finals
    references = frozenset(cell.contender for cell in cells if cell.reference)
    # Where all are reference points, the study is about them.
    if len(references) == len({cell.contender for cell in cells}):
        references = frozenset()
    settings = {cell.contender: cell.own for cell in cells}

    def related(first: str, second: str) -> bool:
        """Whether one key tells them apart: where several do, nobody knows which one it was."""
        ours, theirs = settings[first], settings[second]
        return len([key for key in {**ours, **theirs} if ours.get(key) != theirs.get(key)]) <= 1

    return intervals.compare(groups, references, related)


def standings(cells: Sequence[CellSummary]) -> list[Standing]:
    """One for every group that has a confirmed cell, in the order of the cells."""
    groups: dict[str, list[CellSummary]] = {}
    for cell in cells:
        if cell.final.n:
            groups.setdefault(cell.group, []).append(cell)
    return [_standing(group, measured) for group, measured in groups.items()]


def _standing(group: str, measured: Sequence[CellSummary]) -> Standing:
    studied = [cell for cell in measured if not cell.reference] or list(measured)
    best = max(studied, key=lambda cell: cell.final.mean)
    level = best.final.mean - TIE
    names = tuple(cell.contender for cell in studied if cell.final.mean >= level)
    return Standing(
        group=group,
        best=names,
        final=best.final,
        chance=best.chance,
        others=tuple(cell.contender for cell in measured if cell.contender not in names),
        references_above=tuple(
            (cell.contender, cell.final.mean)
            for cell in measured
            if cell not in studied and cell.final.mean >= level
        ),
    )


def by_data(cells: Sequence[CellSummary]) -> dict[str, list[CellSummary]]:
    """Confirmed cells by the data that they saw, called by as few keys as set it apart."""
    groups: dict[str, list[CellSummary]] = {}
    for cell in cells:
        params = cell.confirmed[0].params
        known = {k: v for k, v in params.items() if k.startswith("data.") and k not in SAME_DATA}
        groups.setdefault(json.dumps(known, sort_keys=True, default=str), []).append(cell)
    named: dict[str, list[CellSummary]] = {}
    names = data_names([json.loads(data) for data in groups])
    for name, members in zip(names, groups.values(), strict=True):
        named.setdefault(name, []).extend(members)
    return named


def data_names(tables: Sequence[Mapping[str, Any]]) -> list[str]:
    """What each of these settings of data is called beside the others."""
    every = dict.fromkeys(key for own in tables for key in own)
    varying = [key for key in every if len({str(own.get(key)) for own in tables}) > 1]
    # A hash says nothing to people; what it tells apart differs in another key, or is a new split.
    plain = [key for key in varying if key != SPLIT]
    for keys in (("data.name",), (TASKS,), ("data.name", TASKS), plain, varying):
        if len({str([own.get(key) for key in keys]) for own in tables}) == len(tables):
            break
    return [", ".join(_data_word(key, own[key]) for key in keys if key in own) for own in tables]


def _data_word(key: str, value: Any) -> str:
    if key == "data.name":
        return str(value)
    if key == TASKS:
        return f"{value} tasks"
    return f"{key.removeprefix('data.')} {str(value)[:HASH_LENGTH] if key == SPLIT else value}"


def _summarise(
    study: StudyRecords,
    cell: CellRecord,
    shown: Mapping[str, Any],
    varying: set[str],
    compared: frozenset[str],
    labels: Mapping[str | None, str],
) -> CellSummary:
    """A cell whose key is `shown` as that, given what varies and what is compared."""
    searches, tried = study.searches(cell.cell), study.confirmations(cell.cell)
    confirmed = tuple(trial for trial in tried if trial.status == "completed")
    winner = study.winners.get(cell.cell)
    trials = [trial for trial in study.trials if trial.cell == cell.cell]
    own = {key: value for key, value in shown.items() if key in compared}
    shared = {key: value for key, value in shown.items() if key not in (METHOD, *compared)}
    finals = curves.final_by_seed(confirmed, "test/accuracy")

    def over_seeds(metric: str) -> Interval:
        return intervals.interval(list(curves.final_by_seed(confirmed, metric).values()))

    return CellSummary(
        cell=cell.cell,
        label=labels[cell.cell],
        group=cell_label(shared, varying),
        contender=cell_label(own, varying) if own else cell.method,
        own=own,
        shared=shared,
        method=cell.method,
        # A method may be one that is not known here.
        reference=catalog.declaration(cell.method).reference
        if cell.method in catalog.methods()
        else None,
        tasks=cell.tasks,
        search_tasks=cell.search_tasks,
        tuned_in=labels.get(cell.tuned_in, cell.tuned_in),
        chance=_chance(study, trials),
        setting=winner.searched if winner else {},
        finals=finals,
        final=intervals.interval(list(finals.values())),
        average_anytime=over_seeds("test/average_anytime_accuracy"),
        forgetting=over_seeds("test/forgetting"),
        plasticity=over_seeds("test/plasticity"),
        objective=winner.objective if winner else "",
        search_value=winner.value if winner else None,
        ended=Counter(trial.status for trial in searches),
        confirmed=confirmed,
        exhausted=tuple(curves.first_exhausted(confirmed)),
        empty=tuple(curves.first_empty(confirmed)),
        compute_seconds=sum(trial.compute_seconds for trial in trials),
        seconds=sum(trial.seconds for trial in trials),
    )


def _chance(study: StudyRecords, trials: Sequence[TrialRecord]) -> float | None:
    """Accuracy of guessing: the study's, or this cell's own where cells differ in classes."""
    if study.study.chance is not None or not trials:
        return study.study.chance
    params = trials[0].params
    info = catalog.DATASETS.get(params.get("data.name", ""))
    classes = params.get("data.classes") or (info.classes if info else None)
    return 1 / classes if classes else None
