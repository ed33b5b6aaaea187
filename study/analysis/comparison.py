"""Two studies beside each other: what differs between them, and what it did to each cell."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from study.analysis import curves
from study.evidence import LEVEL, Interval, intervals, welch
from study.ledger import (
    LEDGER,
    PROTOCOL,
    WHOLE_STREAM,
    CellRecord,
    StudyRecords,
    TrialRecord,
    cell_label,
    protocol,
    read_study,
    varying_keys,
)

NOT_SET = "not set"
# Of a study file, what cannot change a number.
SILENT = ("name", "question", "storage", "max_concurrent", "retries")


@dataclass(frozen=True)
class ComparedCell:
    """A cell that both studies have: final test accuracies, and B minus A.

    `test` says how they were compared: paired where they have two common seeds or more (on those
    only), else Welch's t-test over all seeds, "none" where that is not possible either. `p_holm`
    is after Holm's correction over all cells.
    """

    label: str
    first: Interval
    second: Interval
    test: str
    difference: Interval
    p: float
    p_holm: float

    @property
    def enough_evidence(self) -> bool:
        """Whether the difference holds: by its own interval and by the corrected p."""
        decided = self.difference.low > 0 or self.difference.high < 0
        return decided and self.p_holm <= 1 - LEVEL


@dataclass(frozen=True)
class StudyComparison:
    """Study A beside study B.

    `differences` are settings, code and packages as (name, in A, in B); the cells of one study
    alone are named by their labels.
    """

    first: StudyRecords
    second: StudyRecords
    differences: tuple[tuple[str, str, str], ...]
    cells: tuple[ComparedCell, ...]
    first_only: tuple[str, ...]
    second_only: tuple[str, ...]


def compare_studies(first: Path, second: Path) -> StudyComparison:
    """Compares the studies in two folders.

    Cells are the same where they agree on every key that varies in one of the studies; keys that
    are constant in both may differ, and are listed.

    Raises:
        ValueError: if a folder has no ledger, or a broken one, or both are the same.
    """
    if first.resolve() == second.resolve():
        raise ValueError(f"two studies must be in different folders, but got {first} twice.")
    ours, theirs = _read(first), _read(second)
    varying = (varying_keys([cell.key for cell in study.cells]) for study in (ours, theirs))
    axes = sorted(set.union(*varying))
    here, there = _by_place(ours, axes), _by_place(theirs, axes)
    cells = [
        _compared(
            cell_label(here[place].key, axes),
            ours.confirmations(here[place].cell),
            theirs.confirmations(cell.cell),
        )
        for place, cell in there.items()
        if place in here
    ]
    corrected = intervals.holm([cell.p for cell in cells])
    return StudyComparison(
        first=ours,
        second=theirs,
        differences=_differences(_settings(ours), _settings(theirs)),
        cells=tuple(replace(cell, p_holm=p) for cell, p in zip(cells, corrected, strict=True)),
        first_only=tuple(cell_label(here[at].key, axes) for at in here if at not in there),
        second_only=tuple(cell_label(there[at].key, axes) for at in there if at not in here),
    )


def _read(folder: Path) -> StudyRecords:
    path = folder / LEDGER
    if not path.is_file():
        raise ValueError(
            f"a study's folder must hold its {LEDGER}, but {folder} "
            + ("does not." if folder.is_dir() else "is no folder.")
        )
    return read_study(path)


def _by_place(study: StudyRecords, axes: list[str]) -> dict[tuple[str, ...], CellRecord]:
    """The cells by their values on the axes, wherever these are written down."""
    params = {trial.cell: trial.params for trial in study.trials}
    name = protocol(study.study.spec).get("protocol", WHOLE_STREAM)
    places = {}
    for cell in study.cells:
        known = {PROTOCOL: name, **params.get(cell.cell, {}), **cell.fixed, **cell.key}
        places[tuple(json.dumps(known.get(axis)) for axis in axes)] = cell
    return places


def _compared(label: str, *trials: Sequence[TrialRecord]) -> ComparedCell:
    """B minus A; Holm's correction comes when all cells are known."""
    first, second = (curves.final_by_seed(own, "test/accuracy") for own in trials)
    a, b = intervals.interval(list(first.values())), intervals.interval(list(second.values()))
    common = sorted(set(first) & set(second))
    if len(common) > 1:
        values = [second[seed] - first[seed] for seed in common]
        difference, p = intervals.paired(values, intervals.size(first.values(), second.values()))
        test = f"paired, {len(common)} seeds"
    else:
        difference, p = welch(list(second.values()), list(first.values()))
        test = f"Welch, {a.n} and {b.n} seeds" if p == p else "none, too few seeds"
    return ComparedCell(label, a, b, test, difference, p, p)


def _settings(study: StudyRecords) -> dict[str, str]:
    """Everything that could make a difference, as text by name."""
    about = study.study
    flat: dict[str, Any] = {}
    for key, value in about.spec.items():
        if key in SILENT:
            continue
        if key == "fixed":
            flat |= value
        elif key == "grid":
            # One value makes no axis: then it does not matter where it is written.
            flat |= {name: axis[0] if len(axis) == 1 else axis for name, axis in value.items()}
        elif isinstance(value, Mapping):
            # What a section leaves open is as if it were not written.
            flat |= {f"{key}.{name}": entry for name, entry in value.items() if entry is not None}
        else:
            flat[key] = value
    flat |= {f"split of {name}": sha256 for name, sha256 in about.data.items()}
    flat |= {f"package {name}": version for name, version in about.versions.items()}
    flat["commit"] = about.commit or "not known"
    return {
        key: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for key, value in flat.items()
    }


def _differences(
    first: Mapping[str, str], second: Mapping[str, str]
) -> tuple[tuple[str, str, str], ...]:
    keys = [key for key in {**first, **second} if first.get(key) != second.get(key)]
    return tuple((key, first.get(key, NOT_SET), second.get(key, NOT_SET)) for key in keys)
