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
from study.labels import METHOD, cell_label, value_text, varying_keys
from trainables import catalog

NO_BREAK = "\N{NO-BREAK SPACE}"


@dataclass(frozen=True)
class CellSummary:
    """What a cell came to. `group` is its label without the method.

    `reference` says what the method shows, where it is a reference point and not under study.
    `tuned_in` is the label of the cell whose search found the setting, where that is another one.

    The intervals are over the completed confirmation trials (`confirmed`), on test images;
    `ended` counts search trials by status; `seconds` and `compute_seconds` are over all trials.
    """

    cell: str
    label: str
    group: str
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
    def has_subspace(self) -> bool:
        """Whether the method keeps track of used and free dimensions at all."""
        return bool(scaling.layers(self.confirmed))

    @property
    def searched(self) -> int:
        """Number of search trials that came to an end."""
        return sum(count for status, count in self.ended.items() if status != "running")


def summarise(study: StudyRecords) -> list[CellSummary]:
    """Summarises every cell, those of one group beside each other, in the order of the ledger."""
    varying = varying_keys([one.key for one in study.cells])
    found = [_summarise(study, cell, varying) for cell in study.cells]
    groups = list(dict.fromkeys(one.group for one in found))
    return sorted(found, key=lambda one: groups.index(one.group))


def compare_methods(cells: Sequence[CellSummary]) -> list[Comparison]:
    """Pairs within each group, by final accuracy on the same seeds.

    Two reference points are not compared: each comparison more weakens all others.
    """
    groups: dict[str, dict[str, Mapping[int, float]]] = {}
    for one in cells:
        groups.setdefault(one.group, {})[one.method] = one.finals
    return scaling.compare(groups, frozenset(one.method for one in cells if one.reference))


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


def _summarise(study: StudyRecords, cell: CellRecord, varying: set[str]) -> CellSummary:
    searches, tried = study.searches(cell.cell), study.confirmations(cell.cell)
    confirmed = tuple(one for one in tried if one.status == "completed")
    winner = study.winners.get(cell.cell)
    trials = [one for one in study.trials if one.cell == cell.cell]
    rest = {key: value for key, value in cell.key.items() if key != METHOD}
    finals = scaling.final_by_seed(confirmed, "test/accuracy")

    def over_seeds(metric: str) -> Interval:
        return scaling.interval(list(scaling.final_by_seed(confirmed, metric).values()))

    return CellSummary(
        cell=cell.cell,
        label=cell_label(cell.key, varying),
        group=cell_label(rest, varying),
        method=cell.method,
        reference=reference_of(cell.method),
        tasks=cell.tasks,
        search_tasks=cell.search_tasks,
        tuned_in=_label_of(study, cell.tuned_in, varying),
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


def _label_of(study: StudyRecords, cell: str | None, varying: set[str]) -> str | None:
    """The label of a cell; its own name where the ledger does not have it."""
    found = next((one for one in study.cells if one.cell == cell), None)
    return cell if found is None else cell_label(found.key, varying)


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
