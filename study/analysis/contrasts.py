"""Declared contrasts: what each came to, by the looks that were taken of it or a fresh one."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, cast

from study.evidence import Design, Look, Reason, Verdict, look, seeds_to_decide
from study.ledger import (
    ContrastRecord,
    LookRecord,
    StudyRecords,
    cell_label,
    in_points,
    present_looks,
    shown_keys,
    varying_keys,
)

Declared: TypeAlias = Literal["before", "after the data"]
BEFORE: Declared = "before"
AFTER: Declared = "after the data"
MOST_SEEDS = 100
"""More rounds of seeds than this no study file asks for."""


@dataclass(frozen=True)
class Later:
    """Contrasts that nobody declared before the first confirmation; `margin` in points."""

    contrasts: tuple[ContrastRecord, ...]
    margin: float


@dataclass(frozen=True)
class ContrastResult:
    """What a contrast came to: `first` minus `second`, which are labels, in `group`.

    `look` is the last one that was taken, or a fresh one where none was; in points. With `so_far`
    further seeds are still to come; an `earlier` one is of settings that the cells had before their
    search went on. On the seeds `failed` one of the two has no value, those that
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
    earlier: bool
    so_far: bool
    failed: tuple[int, ...]
    pending: tuple[int, ...]
    lacking: tuple[str, ...]
    seeds_to_decide: int | None


def contrasts_of(study: StudyRecords, later: Later | None = None) -> tuple[ContrastResult, ...]:
    """The declared contrasts in the order of the question, then those of `later`.

    Of a contrast that is declared again, with the same margin and the same seeds, the first counts.
    """
    labels = _labels(study)

    def results(
        contrasts: Sequence[ContrastRecord], margin: float, declared: Declared
    ) -> list[ContrastResult]:
        family = len(contrasts)
        return [_result(study, own, family, margin, declared, labels) for own in contrasts]

    before = results(study.contrasts, study.margin, BEFORE)
    after = results(later.contrasts, later.margin, AFTER) if later else []
    known = [_meaning(own) for own in before]
    return (*before, *(own for own in after if _meaning(own) not in known))


def _meaning(own: ContrastResult) -> tuple[object, ...]:
    """What two declarations of the same contrast have in common."""
    return (own.cells, own.metric, own.margin, own.non_inferiority, own.look.seeds)


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
    present = present_looks(contrast, taken, study.winners)
    # Its error rate is spent on the settings of then.
    earlier = not present and any(own.seeds for own in taken)
    taken = taken if earlier else present
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
        earlier=earlier,
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


def _rounds(study: StudyRecords) -> tuple[int, int] | None:
    """First and most seeds, where they came until contrasts were decided."""
    seeds = study.study.spec.get("seeds")
    if not isinstance(seeds, Mapping):
        return None
    first, most = seeds.get("first"), seeds.get("at_most")
    if isinstance(first, int) and isinstance(most, int) and 2 <= first <= most <= MOST_SEEDS:
        return first, most
    return None


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
    tried = {*ended[0], *ended[1], *pending}
    rounds = _rounds(study)
    if rounds is None:
        # A single look: its limit is that of the pairs that came.
        order = sorted(tried)
        order += [max(order, default=-1) + 1 + at for at in range(2 - len(order))]
        design = Design(len(order), len(order), family)
    else:
        begin = min(_first_seeds(study, (contrast.first, contrast.second)), default=0)
        order = list(range(begin, begin + rounds[1]))
        design = Design(*rounds, family)
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
    entries = {field.name: getattr(own, field.name) for field in dataclasses.fields(Look)}
    return Look(**{**entries, "verdict": verdict, "reason": reason})
