"""One summary a cell, and the comparison of the methods that met in the same group of cells."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from study import ledger
from study.analysis import records, scaling, units
from study.analysis.entities import CellRecord, StudyRecords, TrialRecord
from study.analysis.scaling import Comparison, Exhaustion, Interval
from study.analysis.wording import DASH, percent
from study.labels import (
    METHOD,
    TASKS,
    cell_label,
    contender_keys,
    shown_keys,
    value_text,
    varying_keys,
)
from trainables import catalog

NO_BREAK = "\N{NO-BREAK SPACE}"
ALL = "all"
"""The group of a study whose cells differ in nothing but in what is compared."""


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
        return {key: one for key, one in self.shared.items() if key != TASKS}

    @property
    def has_subspace(self) -> bool:
        """Whether the method keeps track of used and free dimensions at all."""
        return bool(scaling.layers(self.confirmed))

    @property
    def searched(self) -> int:
        """Number of search trials that came to an end."""
        return sum(count for status, count in self.ended.items() if status != "running")


def summarise(study: StudyRecords) -> list[CellSummary]:
    """Summarises every cell, those of one group beside each other, in the order of the ledger."""
    keys = shown_keys([(one.key, one.fixed) for one in study.cells])
    names = _Names(varying_keys(keys), contender_keys(keys), study, keys)
    found = [_summarise(study, cell, names) for cell in study.cells]
    groups = list(dict.fromkeys(one.group for one in found))
    return sorted(found, key=lambda one: groups.index(one.group))


def compare_methods(cells: Sequence[CellSummary]) -> list[Comparison]:
    """Pairs within each group, by final accuracy on the same seeds.

    Neither two reference points are compared nor settings that differ in several keys: each
    comparison more weakens all others.
    """
    groups: dict[str, dict[str, Mapping[int, float]]] = {}
    for one in cells:
        groups.setdefault(one.group, {})[one.contender] = one.finals
    references = frozenset(one.contender for one in cells if one.reference)
    # Where all are reference points, the study is about them.
    if len(references) == len({one.contender for one in cells}):
        references = frozenset()
    settings = {one.contender: one.own for one in cells}

    def related(first: str, second: str) -> bool:
        """Whether one key tells them apart: where several do, nobody knows which one it was."""
        one, other = settings[first], settings[second]
        return len([key for key in {**one, **other} if one.get(key) != other.get(key)]) <= 1

    return scaling.compare(groups, references, related)


def reference_of(method: str) -> str | None:
    """What a reference point shows; None for a method under study, or one not known here."""
    return catalog.method_file(method).reference if method in catalog.methods() else None


def summary_rows(ledger_records: Iterable[ledger.Record]) -> list[dict[str, str]]:
    """The summary table as text, one dict of heading → entry a cell, for a terminal."""
    return text_rows(summarise(records.from_records(ledger_records)))


def text_rows(cells: Sequence[CellSummary]) -> list[dict[str, str]]:
    """The summary table as text: shares in %, ± is the 95 % t-interval over n seeds."""
    return [
        {
            "cell": one.label,
            "final accuracy, %": with_interval(one.final),
            "sd, points": percent(one.final.std),
            "AAA, %": percent(one.average_anytime.mean),
            "forgetting, points": percent(one.forgetting.mean),
            "plasticity, %": percent(one.plasticity.mean),
            "best setting": setting_text(one.setting, "\n"),
            "best in search": _objective_text(one),
            "search trials": _ended_text(one.ended),
            "compute / wall, s": f"{one.compute_seconds:.0f} / {one.seconds:.0f}",
        }
        for one in cells
    ]


def with_interval(found: Interval) -> str:
    """Mean ± half the 95 % interval in %, with n; the mean alone where there is no interval."""
    if not found.n:
        return DASH
    half = f" ± {percent(found.half)}" if found.n > 1 else ""
    return f"{percent(found.mean)}{half} (n = {found.n})"


def setting_text(setting: Mapping[str, Any], between: str = ", ") -> str:
    """A setting in words: keys as everywhere, numbers to three digits."""
    return between.join(f"{key}={value_text(value)}" for key, value in setting.items()) or DASH


class _Names:
    """What the cells of a study are called."""

    def __init__(
        self,
        varying: set[str],
        compared: frozenset[str],
        study: StudyRecords,
        keys: Sequence[Mapping[str, Any]],
    ) -> None:
        self._varying = varying
        self._compared = compared
        self._keys = {cell.cell: key for cell, key in zip(study.cells, keys, strict=True)}

    def label(self, cell: str | None) -> str | None:
        """The label of a cell; its own name where the ledger does not have it."""
        return cell_label(self._keys[cell], self._varying) if cell in self._keys else cell

    def own(self, cell: str) -> dict[str, Any]:
        """What the cell is compared by."""
        return {key: one for key, one in self._keys[cell].items() if key in self._compared}

    def shared(self, cell: str) -> dict[str, Any]:
        """What it has in common with those it is compared with."""
        apart = (METHOD, *self._compared)
        return {key: one for key, one in self._keys[cell].items() if key not in apart}

    def text(self, key: Mapping[str, Any]) -> str:
        """A part of a cell's key in words."""
        return cell_label(key, self._varying)


def _summarise(study: StudyRecords, cell: CellRecord, names: _Names) -> CellSummary:
    searches, tried = study.searches(cell.cell), study.confirmations(cell.cell)
    confirmed = tuple(one for one in tried if one.status == "completed")
    winner = study.winners.get(cell.cell)
    trials = [one for one in study.trials if one.cell == cell.cell]
    own, shared = names.own(cell.cell), names.shared(cell.cell)
    finals = scaling.final_by_seed(confirmed, "test/accuracy")

    def over_seeds(metric: str) -> Interval:
        return scaling.interval(list(scaling.final_by_seed(confirmed, metric).values()))

    return CellSummary(
        cell=cell.cell,
        label=names.label(cell.cell) or cell.cell,
        group=names.text(shared),
        contender=names.text(own) if own else cell.method,
        own=own,
        shared=shared,
        method=cell.method,
        reference=reference_of(cell.method),
        tasks=cell.tasks,
        search_tasks=cell.search_tasks,
        tuned_in=names.label(cell.tuned_in),
        chance=_chance(study, trials),
        setting=winner.searched if winner else {},
        finals=finals,
        final=scaling.interval(list(finals.values())),
        average_anytime=over_seeds("test/average_anytime_accuracy"),
        forgetting=over_seeds("test/forgetting"),
        plasticity=over_seeds("test/plasticity"),
        objective=winner.objective if winner else "",
        search_value=winner.value if winner else None,
        ended=Counter(one.status for one in searches),
        confirmed=confirmed,
        exhausted=tuple(scaling.first_exhausted(confirmed)),
        empty=tuple(scaling.first_empty(confirmed)),
        compute_seconds=sum(one.compute_seconds for one in trials),
        seconds=sum(one.seconds for one in trials),
    )


def _chance(study: StudyRecords, trials: Sequence[TrialRecord]) -> float | None:
    """Accuracy of guessing: the study's, or this cell's own where cells differ in classes."""
    if study.study.chance is not None or not trials:
        return study.study.chance
    params = trials[0].params
    info = catalog.DATASETS.get(params.get("data.name", ""))
    classes = params.get("data.classes") or (info.classes if info else None)
    return 1 / classes if classes else None


def _objective_text(one: CellSummary) -> str:
    if one.search_value is None:
        return DASH
    unit = f" {units.unit(one.objective)}".rstrip()
    lines = [one.objective, f"{units.text(one.objective, one.search_value)}{unit}"]
    if one.tuned_in is not None:
        lines.append(f"in {one.tuned_in}")
    elif (one.search_tasks or 0) < (one.tasks or 0):
        lines.append(f"after {one.search_tasks} of {one.tasks} tasks")
    return "\n".join(lines)


def _ended_text(ended: Mapping[str, int]) -> str:
    return (
        "\n".join(f"{count}{NO_BREAK}{status}" for status, count in sorted(ended.items())) or "none"
    )
