"""Declared contrasts: what each came to, by the looks that were taken of it or a fresh one."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, cast

from study.evidence import Design, Look, Reason, Verdict, look, seeds_to_decide
from study.ledger import (
    METHOD,
    CellRecord,
    ContrastRecord,
    LookRecord,
    StudyRecords,
    cell_label,
    in_points,
    shown_keys,
    varying_keys,
)
from trainables.config import catalog

Declared: TypeAlias = Literal["before", "after the data"]
BEFORE: Declared = "before"
AFTER: Declared = "after the data"


@dataclass(frozen=True)
class Later:
    """Contrasts that nobody declared before the first confirmation; `margin` in points."""

    contrasts: tuple[ContrastRecord, ...]
    margin: float


@dataclass(frozen=True)
class ContrastResult:
    """What a contrast came to: `first` minus `second`, which are labels, in `group`.

    `look` is the last one that was taken, or a fresh one where none was; in points. With `so_far`
    further seeds are still to come. On the seeds `failed` one of the two has no value, those that
    are `pending` have not ended in both; `lacking` are the arms without any. `family` counts the
    contrasts that share the error rate. `seeds_to_decide` is how many seeds would give a verdict
    with 80 % power if mean and spread stay as measured: None where it has one, or nothing tells.
    """

    name: str
    first: str
    second: str
    group: str
    cells: tuple[str, str]
    metric: str
    margin: float
    non_inferiority: bool
    declared: Declared
    family: int
    look: Look
    so_far: bool
    failed: tuple[int, ...]
    pending: tuple[int, ...]
    lacking: tuple[str, ...]
    seeds_to_decide: int | None


def contrasts_of(study: StudyRecords, later: Later | None = None) -> tuple[ContrastResult, ...]:
    """The declared contrasts in the order of the question, then those of `later`.

    A ledger older than contrasts has `default_contrasts`, as if declared later. What was declared
    before is not declared again.
    """
    if later is None:
        old = "contrasts" not in study.study.spec
        later = Later(default_contrasts(study) if old and not study.contrasts else (), study.margin)
    known = {_meaning(contrast, study.margin) for contrast in study.contrasts}
    new = [own for own in later.contrasts if _meaning(own, later.margin) not in known]
    families: tuple[tuple[Sequence[ContrastRecord], float, Declared], ...] = (
        (study.contrasts, study.margin, BEFORE),
        (new, later.margin, AFTER),
    )
    labels = _labels(study)
    return tuple(
        _result(study, contrast, len(family), margin, declared, labels)
        for family, margin, declared in families
        for contrast in family
    )


def default_contrasts(study: StudyRecords) -> tuple[ContrastRecord, ...]:
    """The first method of the grid against each reference point there, in every group of cells."""
    cells = [cell for cell in study.cells if METHOD in cell.key]
    axis = (study.study.spec.get("grid") or {}).get(METHOD)
    methods = axis if isinstance(axis, list | tuple) else ()
    methods = tuple(dict.fromkeys((*methods, *(cell.method for cell in cells))))
    references = [method for method in methods[1:] if _is_reference(method)]
    labels = _labels(study)
    contrasts = []
    for ours in cells:
        rest = _rest(ours)
        for method in references if ours.method == methods[0] else ():
            theirs = [cell for cell in cells if cell.method == method and _rest(cell) == rest]
            for other in theirs:
                first, second, group = _arms(labels, ours.cell, other.cell)
                name = ", ".join(part for part in (f"{first} vs {second}", group) if part)
                contrasts.append(ContrastRecord(name, ours.cell, other.cell))
    return tuple(contrasts)


def _is_reference(method: str) -> bool:
    return method in catalog.methods() and catalog.declaration(method).reference is not None


def _rest(cell: CellRecord) -> dict[str, Any]:
    return {key: value for key, value in cell.key.items() if key != METHOD}


def _meaning(contrast: ContrastRecord, margin: float) -> tuple[object, ...]:
    """What two declarations of the same contrast have in common."""
    return (contrast.first, contrast.second, contrast.metric, contrast.non_inferiority, margin)


def _labels(study: StudyRecords) -> tuple[Mapping[str, Mapping[str, Any]], set[str]]:
    """By cell what its labels are made from, and the keys that vary."""
    keys = shown_keys([(cell.key, cell.fixed) for cell in study.cells])
    cells = [cell.cell for cell in study.cells]
    return dict(zip(cells, keys, strict=True)), varying_keys(keys)


def _arms(
    labels: tuple[Mapping[str, Mapping[str, Any]], set[str]], first: str, second: str
) -> tuple[str, str, str]:
    """What both arms are called by the keys in which they differ, and by the others together."""
    keys, varying = labels
    ours, theirs = keys.get(first, {}), keys.get(second, {})
    apart = {key for key in {**ours, **theirs} if str(ours.get(key)) != str(theirs.get(key))}
    arms = [{key: own[key] for key in own if key in apart} for own in (ours, theirs)]
    shared = {key: ours[key] for key in ours if key not in apart and key in varying}
    names = [
        cell_label(own, apart) if own else cell
        for own, cell in zip(arms, (first, second), strict=True)
    ]
    return names[0], names[1], cell_label(shared, varying) if shared else ""


def _result(
    study: StudyRecords,
    contrast: ContrastRecord,
    family: int,
    margin: float,
    declared: Declared,
    labels: tuple[Mapping[str, Mapping[str, Any]], set[str]],
) -> ContrastResult:
    first, second, group = _arms(labels, contrast.first, contrast.second)
    cells = (contrast.first, contrast.second)
    values = [_values(study, cell, contrast.metric) for cell in cells]
    ended = [_ended(study, cell) for cell in cells]
    taken = [own for own in study.looks if own.contrast == contrast.name and declared == BEFORE]
    due = _due(study, cells, taken[-1].next_seeds if taken else ())
    pending = tuple(seed for seed in due if not all(seed in own for own in ended))
    if taken:
        found = _recorded(taken[-1])
    else:
        found = _fresh(study, contrast, family, margin, values, ended, pending)
    return ContrastResult(
        name=contrast.name,
        first=first,
        second=second,
        group=group,
        cells=cells,
        metric=contrast.metric,
        margin=margin,
        non_inferiority=contrast.non_inferiority,
        declared=declared,
        family=family,
        look=found,
        so_far=study.status != "complete" and bool(pending or found.next_seeds),
        failed=tuple(
            sorted(
                seed
                for seed in {*ended[0], *ended[1]}
                if any(
                    seed in own and seed not in has for own, has in zip(ended, values, strict=True)
                )
            )
        ),
        pending=pending,
        lacking=tuple(name for name, own in zip((first, second), values, strict=True) if not own),
        seeds_to_decide=_to_decide(found, margin, family),
    )


def _values(study: StudyRecords, cell: str, metric: str) -> dict[int, float]:
    """By seed the metric after the last task, in points; NaN where a completed one has none."""
    finals = {
        trial.seed: trial.final(metric)
        for trial in study.confirmations(cell)
        if trial.status == "completed"
    }
    return {
        seed: math.nan if value is None else in_points(metric, value)
        for seed, value in finals.items()
    }


def _ended(study: StudyRecords, cell: str) -> frozenset[int]:
    """Seeds whose confirmation has ended for good."""
    trials = study.confirmations(cell)
    return frozenset(trial.seed for trial in trials if trial.status in ("completed", "failed"))


def _due(study: StudyRecords, cells: tuple[str, str], asked: Sequence[int]) -> tuple[int, ...]:
    """The seeds that were asked for: those of the last look, or else those of the cells.

    None where a cell has failed, or all is over: nothing more will come.
    """
    if study.status == "complete" or any(cell in study.failed_cells for cell in cells):
        return ()
    return tuple(asked) or _first_seeds(study, cells)


def _first_seeds(study: StudyRecords, cells: tuple[str, str]) -> tuple[int, ...]:
    """The seeds that the cells are confirmed on before any look."""
    known = {record.cell: record.seeds for record in study.cells}
    return tuple(sorted({seed for cell in cells for seed in known.get(cell, ())}))


def _fresh(
    study: StudyRecords,
    contrast: ContrastRecord,
    family: int,
    margin: float,
    values: Sequence[Mapping[int, float]],
    ended: Sequence[frozenset[int]],
    pending: Sequence[int],
) -> Look:
    """A look that nobody took while the study ran; it asks for no seeds."""
    seeds = study.study.spec.get("seeds")
    tried = {*ended[0], *ended[1], *pending}
    if not isinstance(seeds, Mapping):
        # A single look: its limit is that of the pairs that came.
        order = sorted(tried)
        order += [max(order, default=-1) + 1 + at for at in range(2 - len(order))]
        design = Design(len(order), len(order), family)
    else:
        begin = min(_first_seeds(study, (contrast.first, contrast.second)), default=0)
        order = list(range(begin, begin + seeds["at_most"]))
        design = Design(seeds["first"], seeds["at_most"], family)
    found = look(
        contrast.name,
        values[0],
        values[1],
        design,
        margin,
        order,
        tried,
        contrast.non_inferiority,
    )
    found = dataclasses.replace(found, next_seeds=())
    if not pending or found.reason in ("few_seeds", "not_finite"):
        return found
    # The only look is due when the last of its seeds has ended; before, it would be another look.
    blank = math.nan
    return dataclasses.replace(
        found,
        low=blank,
        high=blank,
        verdict="undecided",
        reason="few_seeds",
        by_less_than_margin=False,
        non_inferior=False,
    )


def _to_decide(found: Look, margin: float, family: int) -> int | None:
    """More than there were, which did not."""
    if found.verdict != "undecided" or not 0 < found.std < math.inf:
        return None
    seeds = seeds_to_decide(found.mean, found.std, margin, family)
    return None if seeds is None else max(seeds, len(found.seeds) + 1)


def _recorded(own: LookRecord) -> Look:
    verdict, reason = cast(Verdict, own.verdict), cast(Reason, own.reason)
    entries = {field.name: getattr(own, field.name) for field in dataclasses.fields(own)}
    return Look(**{**entries, "verdict": verdict, "reason": reason})
