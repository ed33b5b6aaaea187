"""Contrasts of a study file: what is compared with what, over the cells of a plan or a ledger."""

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeAlias

from pydantic import BaseModel, BeforeValidator, ValidationError, ValidationInfo, field_validator

from study import errors
from study.ledger import METHOD, ContrastRecord, StudyRecords, cell_label, labels
from study.planning import study_file
from study.planning.mistakes import Must, broken_rules
from study.planning.sections import (
    CONFIG,
    LATER_TASKS_ONLY,
    OBJECTIVES,
    VERSUS,
    Mode,
    Truth,
    text,
)
from trainables.config import catalog

FORM = "'A vs B', two values of a key of the grid, or map at least {first, second} to values"
METRIC = "test/accuracy"
# What a confirmation reports after its last task, with what is better.
CONFIRMED: Mapping[str, Mode] = {
    **{name.replace("val/", "test/", 1): mode for name, mode in OBJECTIVES.items()},
    "test/readout_accuracy": "max",
    "test/lost/heads": "min",
    "test/lost/inference": "min",
    "test/minimum_accuracy": "max",
    "test/stability_gap": "min",
}
# Of these, what is reported where a key is set, or not false.
NEEDS = {
    "test/readout_accuracy": "diagnostics",
    "test/lost/heads": "diagnostics",
    "test/lost/inference": "diagnostics",
    "test/minimum_accuracy": "evaluation.during",
    "test/stability_gap": "evaluation.during",
}
OF_LATER_TASKS = (
    *(name.replace("val/", "test/", 1) for name in LATER_TASKS_ONLY),
    "test/minimum_accuracy",
    "test/stability_gap",
)
LEAST_SEEDS, MOST_SEEDS = 3, 100
# The limits of looks come from a million made-up studies, of which each contrast gets its share.
MOST_LOOKED_AT = 100
MOST_CONTRASTS = 2000
Margin: TypeAlias = Annotated[float, Must("a number above 0", gt=0, allow_inf_nan=False)]


class UntilDecided(BaseModel):
    """Seeds in rounds: after the first ones, further ones go to the cells of open contrasts."""

    model_config = CONFIG

    first: Annotated[
        int, Must(f"a whole number from {LEAST_SEEDS} to {MOST_SEEDS}", ge=LEAST_SEEDS, le=100)
    ] = LEAST_SEEDS
    """How many seeds every cell is confirmed on."""
    at_most: Annotated[
        int, Must(f"a whole number from {LEAST_SEEDS} to {MOST_SEEDS}", ge=LEAST_SEEDS, le=100)
    ] = 15
    """How many seeds a cell is confirmed on at most; the error rate is spent over them."""
    until: Literal["decided"]
    """A contrast gets no further seeds once it is higher, lower or equal, or identical so far."""

    @field_validator("at_most")
    @classmethod
    def _check_most(cls, at_most: int, info: ValidationInfo) -> int:
        first = info.data.get("first", LEAST_SEEDS)
        if at_most < first:
            raise ValueError(
                f"seeds.at_most must be at least seeds.first ({first}), but got {at_most}."
            )
        return at_most


class Declared(BaseModel):
    """What is compared: cells that differ in one key alone, `first` minus `second`."""

    model_config = CONFIG

    key: Annotated[str, Must("a key of the grid")] | None = None
    """The key in which the cells differ (null: the one that has all levels among its values,
    method.name before others)."""
    first: Any
    """A value of the key, or a list of some."""
    second: Any
    """A value of the key, or a list of some; each of `first` is compared with each of them."""
    metric: str = METRIC
    """What is compared: a metric of confirmations after their last task. Shares are in points
    (percent), all others in their own unit."""
    where: Mapping[str, Any] = {}
    """Other keys of the grid, each with a value or a list of some: the cells to compare in (none:
    every group of cells that agree in all other keys)."""
    non_inferiority: Truth = False
    """Whether it is settled once `first` is known not to be lower by the margin."""

    @field_validator("metric")
    @classmethod
    def _known(cls, metric: str) -> str:
        if metric not in CONFIRMED:
            raise ValueError(errors.one_of("metric of contrasts", metric, CONFIRMED))
        return metric

    @field_validator("non_inferiority")
    @classmethod
    def _has_a_good_side(cls, asked: bool, info: ValidationInfo) -> bool:
        metric = info.data.get("metric", METRIC)
        if asked and CONFIRMED[metric] == "min":
            raise ValueError(
                f"non_inferiority of contrasts must be false for {metric}, of which less is "
                f"better: not to be lower is no merit there."
            )
        return asked


def _full_form(entry: Any) -> Any:
    """The short form as a mapping."""
    if isinstance(entry, Declared):
        return entry
    levels = VERSUS.split(entry.strip()) if isinstance(entry, str) else []
    if len(levels) == 2 and all(levels):
        return {"first": levels[0], "second": levels[1]}
    if not isinstance(entry, Mapping):
        raise ValueError(f"each of contrasts must be {FORM}, but got {entry!r}.")
    return entry


def _listed(contrasts: Any) -> Any:
    return () if contrasts == "none" else contrasts


Contrasts: TypeAlias = Annotated[
    tuple[Annotated[Declared, BeforeValidator(_full_form)], ...] | None, BeforeValidator(_listed)
]


class Place(NamedTuple):
    """A cell as far as contrasts ask about it: its id, key, what is fixed in it, and its tasks."""

    cell: str
    key: Mapping[str, Any]
    fixed: Mapping[str, Any]
    tasks: int | None


def expanded(
    declared: Sequence[Declared] | None, places: Sequence[Place]
) -> tuple[ContrastRecord, ...]:
    """Every pair of cells that contrasts compare, in the order in which they are declared.

    Without a declaration it is the first method that is no reference point against each reference
    point, wherever two cells differ in nothing else.

    Raises:
        InvalidStudyError: if one names what is not there, leads to no cells, or repeats another.
    """
    grid = _Grid(places)
    if declared is None:
        return grid.named(grid.default())
    mistakes: list[str] = []
    found: list[_Pair] = []
    seen: dict[tuple[frozenset[str], str], int] = {}
    for number, contrast in enumerate(declared, start=1):
        with errors.noted(mistakes):
            for pair in grid.pairs(contrast, f"contrasts, entry {number}:"):
                cells = frozenset((pair.first.cell, pair.second.cell)), pair.metric
                if cells in seen:
                    raise ValueError(
                        f"contrasts, entry {number}: must compare other cells than entry "
                        f"{seen[cells]}, but both compare {pair.first.cell} and "
                        f"{pair.second.cell} by {pair.metric}."
                    )
                seen[cells] = number
                found.append(pair)
    errors.refuse(mistakes)
    return grid.named(found)


def of_study(
    study: StudyRecords, path: Path | None = None
) -> tuple[tuple[ContrastRecord, ...], float]:
    """Contrasts of a study that has run, with their margin: those of a file, or the default ones.

    The file has the keys `contrasts` and, if it is not that of the study, `margin`, both as a study
    file has them.

    Raises:
        ValueError: naming the file and, of all mistakes, the key, the value and what is allowed.
    """
    places = [Place(cell.cell, cell.key, cell.fixed, cell.tasks) for cell in study.cells]
    if path is None:
        return expanded(None, places), study.margin
    plain = study_file.read(path, (), list(_File.model_fields))
    try:
        file = _File.model_validate(plain)
        found = expanded(file.contrasts, places)
        check_count(found, isinstance(study.study.spec.get("seeds"), Mapping))
    except ValidationError as error:
        sentences = itertools.chain(*broken_rules(_File, error).values())
        raise errors.InvalidStudyError(list(sentences), str(path)) from error
    except errors.InvalidStudyError as error:
        raise errors.InvalidStudyError(error.mistakes, str(path)) from error
    return found, study.margin if file.margin is None else file.margin


def check_count(found: Sequence[ContrastRecord], in_rounds: bool) -> None:
    """Refuses more contrasts than there can be limits for."""
    most = MOST_LOOKED_AT if in_rounds else MOST_CONTRASTS
    if len(found) > most:
        raise errors.InvalidStudyError(
            [
                f"contrasts must compare at most {most} pairs of cells"
                f"{' where seeds come until decided' if in_rounds else ''}, but compare "
                f"{len(found)}."
            ]
        )


class _File(BaseModel):
    model_config = CONFIG

    contrasts: Contrasts
    margin: Margin | None = None


class _Pair(NamedTuple):
    key: str
    first: Place
    second: Place
    metric: str
    non_inferiority: bool


class _Grid:
    """The cells by their keys' values; values are told apart as ids of cells tell them apart."""

    def __init__(self, places: Sequence[Place]) -> None:
        self._places = places
        self._axes: dict[str, dict[str, Any]] = {}
        for place in places:
            for key, value in place.key.items():
                self._axes.setdefault(key, {}).setdefault(text(value), value)
        # The cells that agree in all keys but one, by that key's value.
        self._groups: dict[str, dict[tuple[tuple[str, str], ...], dict[str, Place]]] = {}

    def default(self) -> list[_Pair]:
        """The first method that is under study against the reference points."""
        methods = list(self._axes.get(METHOD, ()))
        known = [name for name in methods if name in catalog.methods()]
        references = [name for name in known if catalog.declaration(name).reference]
        studied = [name for name in known if name not in references]
        return [
            _Pair(METHOD, group[studied[0]], group[reference], METRIC, False)
            for group in self._grouped(METHOD).values()
            for reference in references
            if studied and studied[0] in group and reference in group
        ]

    def pairs(self, contrast: Declared, where: str) -> Iterator[_Pair]:
        """The pairs of cells of one declaration, whose place in the file `where` names."""
        key = self._key(contrast, where)
        first = self._levels(key, contrast.first, f"{where} first")
        second = self._levels(key, contrast.second, f"{where} second")
        if both := [level for level in first if level in second]:
            raise ValueError(
                f"{where} first and second must be different values of {key}, but both have "
                f"{both[0]!r}."
            )
        asked = {
            other: self._other(key, other, levels, f"{where} where")
            for other, levels in contrast.where.items()
        }
        pairs = [
            _Pair(key, group[ours], group[theirs], contrast.metric, contrast.non_inferiority)
            for shared, group in self._grouped(key).items()
            if all(dict(shared).get(other) in levels for other, levels in asked.items())
            for ours in first
            for theirs in second
            if ours in group and theirs in group
        ]
        if not pairs:
            raise ValueError(
                f"{where} must leave cells that differ in {key} alone, but with where "
                f"{dict(contrast.where)} there are none."
            )
        for place in (place for pair in pairs for place in (pair.first, pair.second)):
            if problem := _unmeasured(contrast.metric, place):
                raise ValueError(f"{where} metric {contrast.metric} must have cells {problem}.")
        yield from pairs

    def named(self, pairs: Sequence[_Pair]) -> tuple[ContrastRecord, ...]:
        """The records of pairs, with names as a person reads them; no two have the same."""
        shown = labels.shown_keys([(place.key, place.fixed) for place in self._places])
        varying = labels.varying_keys(shown)
        of_cell = {place.cell: key for place, key in zip(self._places, shown, strict=True)}
        names = [_name(pair, of_cell[pair.first.cell], varying) for pair in pairs]
        twice = {name for name, count in Counter(names).items() if count > 1}
        return tuple(
            ContrastRecord(
                f"{pair.first.cell} vs {pair.second.cell}, {pair.metric}"
                if name in twice
                else name,
                pair.first.cell,
                pair.second.cell,
                pair.metric,
                pair.non_inferiority,
            )
            for name, pair in zip(names, pairs, strict=True)
        )

    def _grouped(self, key: str) -> dict[tuple[tuple[str, str], ...], dict[str, Place]]:
        if key not in self._groups:
            groups = self._groups[key] = {}
            for place in self._places:
                if key in place.key:
                    rest = tuple(
                        (name, text(value)) for name, value in place.key.items() if name != key
                    )
                    groups.setdefault(rest, {})[text(place.key[key])] = place
        return self._groups[key]

    def _key(self, contrast: Declared, where: str) -> str:
        """The key whose values are compared."""
        keys = sorted(self._axes, key=lambda key: key != METHOD)
        if contrast.key is not None:
            if contrast.key not in keys:
                raise ValueError(
                    f"{where} key must be one of {keys}, by which cells differ, but got "
                    f"{contrast.key!r}.{errors.hint(contrast.key, keys)}"
                )
            return contrast.key
        fitting = [
            key
            for key in keys
            if not any(self._unknown(key, levels) for levels in (contrast.first, contrast.second))
        ]
        if not fitting:
            asked = [*_several(contrast.first), *_several(contrast.second)]
            values = {key: list(axis.values()) for key, axis in self._axes.items()}
            known = [text(value) for axis in values.values() for value in axis]
            unknown = next((text(level) for level in asked if text(level) not in known), "")
            raise ValueError(
                f"{where} first and second must be values of one key of the grid, {values}, but "
                f"got {contrast.first!r} and {contrast.second!r}."
                f"{errors.hint(unknown, known) if unknown else ''}"
            )
        if len(fitting) > 1 and fitting[0] != METHOD:
            raise ValueError(
                f"{where} key must be given where several have the values, {fitting}, but got "
                f"{contrast.first!r} and {contrast.second!r} alone."
            )
        return fitting[0]

    def _unknown(self, key: str, levels: Any) -> list[Any]:
        """Those of the levels that are no values of a key; a value may be a list itself."""
        if text(levels) in self._axes[key]:
            return []
        several = _several(levels)
        return [level for level in several if text(level) not in self._axes[key]] or (
            [] if several else [levels]
        )

    def _levels(self, key: str, levels: Any, where: str) -> list[str]:
        axis = self._axes[key]
        if unknown := self._unknown(key, levels):
            raise ValueError(
                f"{where} must be among the values of {key}, {list(axis.values())}, but got "
                f"{unknown[0]!r}.{errors.hint(text(unknown[0]), axis)}"
            )
        if text(levels) in axis:
            return [text(levels)]
        found = [text(level) for level in _several(levels)]
        if len(set(found)) < len(found):
            raise ValueError(f"{where} must list each value once, but got {levels!r}.")
        return found

    def _other(self, key: str, other: str, levels: Any, where: str) -> list[str]:
        keys = [axis for axis in self._axes if axis != key]
        if other not in keys:
            raise ValueError(
                f"{where} must name keys of the grid other than {key}, {keys}, but got {other!r}."
                f"{errors.hint(other, keys)}"
            )
        return self._levels(other, levels, f"{where} {other}")


def _unmeasured(metric: str, place: Place) -> str:
    """Why a cell's confirmations will not report a metric; empty where they will."""
    if metric in OF_LATER_TASKS and place.tasks is not None and place.tasks < 2:
        return f"of at least 2 tasks, but {place.cell} has {place.tasks}"
    key = NEEDS.get(metric, "")
    set_to = {"diagnostics": True, **place.fixed, **place.key}.get(key)
    if key and set_to in (None, False):
        return f"with {key} that measure it, but in {place.cell} it is {set_to}"
    return ""


def _several(levels: Any) -> list[Any]:
    return list(levels) if isinstance(levels, list | tuple) else [levels]


def _name(pair: _Pair, shown: Mapping[str, Any], varying: set[str]) -> str:
    arms = [
        cell_label({pair.key: place.key[pair.key]}, (pair.key,))
        for place in (pair.first, pair.second)
    ]
    rest = {key: value for key, value in shown.items() if key != pair.key}
    group = cell_label(rest, varying - {pair.key}) if rest else ""
    parts = [" vs ".join(arms), "" if group == "all" else group]
    parts.append("" if pair.metric == METRIC else pair.metric)
    return ", ".join(part for part in parts if part)
