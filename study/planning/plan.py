"""From a spec to cells, each checked at the borders of what it searches."""

import itertools
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from study import errors
from study.ledger import METHOD, PROTOCOL, TUNED_ON, WHOLE_STREAM, ContrastRecord, History
from study.planning import first_settings, study_file
from study.planning import space as ranges
from study.planning.cells import EVALUATION, Cell, Plan
from study.planning.contrasts import Place, check_count, expanded
from study.planning.extension import extended_spec, has_confirmed
from study.planning.mistakes import named, wrong_settings
from study.planning.sections import LATER_TASKS_ONLY, text
from study.planning.spec import SETTINGS, StudySpec, checked
from trainables.config import DataConfig, catalog

# Samplers that know of settings that not every trial has.
CONDITIONAL = ("tpe", "multivariate_tpe", "nsga2", "random")


def load_plan(path: Path, overrides: Sequence[str] = (), once: bool = False) -> Plan:
    """Reads and plans a study file, with `overrides` as of `StudySpec.load`.

    `once`: it is for a single configuration, which is compared with nothing.

    Raises:
        ValueError: naming the file and all that is wrong with it.
    """
    plain = study_file.read(path, overrides, list(StudySpec.model_fields))
    spec, wrong = checked(plain, str(path))
    if spec is not None and once:
        seeds = (spec.search_seed,) if spec.further_seeds else spec.seeds
        spec = spec.model_copy(update={"contrasts": (), "seeds": seeds})
    if spec is not None and not wrong:
        return make_plan(spec)
    mistakes = list(itertools.chain(*wrong.values()))
    if spec is not None:
        with errors.noted(mistakes):
            left_out = {str(place[1]) for place in wrong if place[0] in SETTINGS and place[1:]}
            make_plan(spec, left_out)
    raise errors.InvalidStudyError(mistakes, str(path))


def extended_plan(history: History, overrides: Sequence[str]) -> Plan:
    """Plans what the study of a ledger goes on with; see `extended_spec`.

    Once a confirmation has begun, what was compared by then is: cells that are new are in no
    contrast.

    Raises:
        ValueError: as `extended_spec`, or if the ledger compares cells that it does not have.
    """
    plan = make_plan(extended_spec(history, overrides))
    if not has_confirmed(history):
        return plan
    cells = {cell.id for cell in plan.cells}
    for contrast in history.contrasts:
        if missing := {contrast.first, contrast.second} - cells:
            raise ValueError(
                f"contrast {contrast.name!r} must be of cells of {history.source}, but is of "
                f"{min(missing)!r}."
            )
    return comparing(plan, history.contrasts)


def make_plan(spec: StudySpec, left_out: Collection[str] = ()) -> Plan:
    """Spans the grid and checks every cell at the borders of what it searches.

    Nothing is said of the flat keys `left_out`, nor of what depends on them.

    Raises:
        InvalidStudyError: naming the study file and, of all mistakes, the cell and the rule.
    """
    mistakes: list[str] = []
    cells: list[Cell] = []
    classes: set[int] = set()
    # What is wrong in several cells is told once.
    where: dict[str, list[str]] = {}
    # Of each cell; further cells check what the first ones had no room for.
    most = max(2, ranges.MOST_CHECKS // math.prod(map(len, spec.grid.values())))
    with errors.noted(mistakes):
        _check_methods(spec)
    for values in itertools.product(*spec.grid.values()):
        key = dict(zip(spec.grid, values, strict=True))
        if {**spec.fixed, **key}.get(METHOD) not in catalog.methods():
            continue
        for cell in _cells(spec, key, mistakes):
            corners = cell.corners(most, most * len(cells))
            own = _broken(spec, cell, corners, {*left_out, *_unresolved(spec, cell)}, classes)
            for sentence in dict.fromkeys(own):
                where.setdefault(sentence, []).append(cell.id)
            cells.append(cell)
    with errors.noted(mistakes):
        _check_once(cells)
    contrasts: tuple[ContrastRecord, ...] = ()
    with errors.noted(mistakes):
        contrasts = _contrasts(spec, cells)
    with errors.noted(mistakes):
        first_settings.check(spec, [cell for cell in cells if cell.searches])
    for sentence, ids in where.items():
        others = f" and {len(ids) - 1} more" if len(ids) > 1 else ""
        place = "every cell" if len(ids) == len(cells) > 1 else f"cell {ids[0]}{others}"
        mistakes.append(f"{place}: {sentence}")
    errors.refuse([line for line in mistakes if not named(line, left_out)], spec.source)
    chance = 1 / classes.pop() if len(classes) == 1 else None
    first = (tuple(first_settings.settings_to_try_first(spec, cell)) for cell in cells)
    planned = (replace(cell, first=settings) for cell, settings in zip(cells, first, strict=True))
    return comparing(Plan(spec, tuple(planned), chance), contrasts)


def comparing(plan: Plan, contrasts: Sequence[ContrastRecord]) -> Plan:
    """The plan with these contrasts, in whose cells further seeds may follow the first ones."""
    compared = {cell for contrast in contrasts for cell in (contrast.first, contrast.second)}
    cells = (
        replace(cell, further=plan.spec.further_seeds if cell.id in compared else ())
        for cell in plan.cells
    )
    return replace(plan, cells=tuple(cells), contrasts=tuple(contrasts))


def _contrasts(spec: StudySpec, cells: Sequence[Cell]) -> tuple[ContrastRecord, ...]:
    """What is compared: as many contrasts as there can be limits for."""
    places = [Place(cell.id, cell.key, cell.fixed, cell.tasks) for cell in cells]
    found = expanded(spec.contrasts, places)
    check_count(found, bool(spec.further_seeds))
    if spec.further_seeds and not found:
        raise ValueError(
            "seeds until decided must have contrasts to decide, but by default there are none: the "
            "grid has no method under study beside a reference point. Say in contrasts what is "
            "compared, or list the seeds."
        )
    return found


def _cells(spec: StudySpec, key: dict[str, Any], mistakes: list[str]) -> list[Cell]:
    """The cell of a point of the grid, and those that the protocol adds to it."""
    search = spec.search
    own = {PROTOCOL: search.protocol} if search.compare else {}
    cell = _cell(spec, {**key, **own}, search.protocol, mistakes)
    cells = [cell]
    elsewhere = [other for other in search.confirm_on if {**key, **other} != key]
    for other in elsewhere:
        before = {**spec.fixed, **key}
        tuned_on = ",".join(f"{name}={text(before.get(name))}" for name in other)
        there = {**key, **other, **own, TUNED_ON: tuned_on}
        moved = _cell(spec, there, search.protocol, mistakes)
        cells.append(replace(moved, space=cell.space, conditions=cell.conditions, tuned_in=cell.id))
    if search.compare:
        # A transfer to other class orders alone is what whole_stream would be, but for its seeds.
        beside = elsewhere if search.protocol == "transfer" else [{}, *elsewhere]
        for other in beside:
            whole = {**key, **other, PROTOCOL: WHOLE_STREAM}
            cells.append(_cell(spec, whole, WHOLE_STREAM, mistakes))
    return cells


def _cell(spec: StudySpec, key: dict[str, Any], protocol: str, mistakes: list[str]) -> Cell:
    """One cell; where its search is wrong, that is noted and nothing is searched."""
    settings = {**spec.fixed, **key}
    method, tasks = str(settings[METHOD]), settings.get("data.tasks", DataConfig.tasks)
    fixed = {**spec.fixed, **spec.settings.get(method, {})}
    name = ",".join(f"{axis}={text(value)}" for axis, value in key.items())
    space: ranges.Space = {}
    when: ranges.Conditions = {}
    with errors.noted(mistakes):
        space = ranges.resolve(spec.search.space, method, {*key, *fixed})
        when = ranges.resolve_conditions(spec.search.space, method, space)
    first, seen = spec.search.first_tasks, tasks
    if protocol == "first_k_tasks" and first is not None and errors.is_number(tasks):
        seen = first
        if first >= tasks:
            mistakes.append(
                f"cell {name}: search.first_tasks must be below data.tasks ({tasks}), "
                f"but got {first}."
            )
    return Cell(
        id=name,
        key=key,
        fixed=fixed,
        space=space,
        tasks=tasks,
        search_tasks=seen,
        search_seed=spec.search_seed,
        seeds=spec.first_seeds,
        conditions=when,
    )


def _check_once(cells: Sequence[Cell]) -> None:
    """Refuses two ways to the same cell."""
    ids = [cell.id for cell in cells]
    twice = [name for at, name in enumerate(ids) if name in ids[:at]]
    if twice:
        raise ValueError(
            f"search.confirm_on must not lead to a cell that is there already: {twice[0]}."
        )


def _check_methods(spec: StudySpec) -> None:
    """Refuses unknown methods, and sections that name a method the study does not run."""
    methods = spec.grid.get(METHOD, (spec.fixed.get(METHOD),))
    mistakes: list[str] = []
    for method in methods:
        with errors.noted(mistakes):
            if method is None:
                raise ValueError(
                    f"method.name must be in grid or fixed; methods are {list(catalog.methods())}."
                )
            catalog.declaration(str(method))
    searched = () if isinstance(spec.search.space, str) else tuple(spec.search.space)
    for section, names in (("search", searched), ("settings", tuple(spec.settings))):
        for extra in names:
            if extra not in methods:
                mistakes.append(
                    f"{section} must name methods of this study ({sorted(map(str, methods))}), "
                    f"but names {extra!r}."
                )
    errors.refuse(mistakes)


def _unresolved(spec: StudySpec, cell: Cell) -> set[str]:
    """The keys that the study searches in a cell in a way that is wrong."""
    space = spec.search.space
    asked = None if isinstance(space, str) else space.get({**cell.fixed, **cell.key}[METHOD])
    keys = asked if isinstance(asked, Mapping | list | tuple) else ()
    return {key for key in keys if isinstance(key, str) and key not in cell.space}


def _broken(
    spec: StudySpec,
    cell: Cell,
    corners: Iterator[dict[str, Any]],
    left_out: set[str],
    classes: set[int],
) -> list[str]:
    """What is wrong with a cell at these corners of its space, for every role and seed.

    Adds the number of classes in use to `classes`, and what is told of to `left_out`.
    """
    first = next(corners)
    # Of seeds nothing but their limits is checked.
    seeds = sorted({cell.search_seed, min(cell.seeds), max(cell.seeds)})
    asked = itertools.chain(
        ((role, first, seed) for role in EVALUATION for seed in seeds),
        (("search", corner, cell.search_seed) for corner in corners),
    )
    mistakes: list[str] = []
    for role, settings, seed in asked:
        mistakes += wrong_settings(cell.params(role, settings, seed), left_out, classes)
    if not mistakes and not left_out:
        with errors.noted(mistakes):
            _check_objective(spec, cell)
        with errors.noted(mistakes):
            if cell.searches:
                _check_sampler(spec.sampler, spec.trials, cell)
    return mistakes


def _check_objective(spec: StudySpec, cell: Cell) -> None:
    """Refuses an objective that a sequence of one task does not have."""
    later = [metric for metric in spec.objective if metric in LATER_TASKS_ONLY]
    if later and cell.search_tasks < 2:
        key = "data.tasks" if cell.tasks < 2 else "search.first_tasks"
        raise ValueError(
            f"{key} must be at least 2 for objective {later[0]}, but got {cell.search_tasks}."
        )


def _check_sampler(kind: str, trials: int, cell: Cell) -> None:
    """Refuses a space that the sampler cannot search."""
    if cell.conditions and kind not in CONDITIONAL:
        raise ValueError(
            f"sampler must be one of {list(CONDITIONAL)} where a key has `when`, as "
            f"{next(iter(cell.conditions))} has, but got {kind!r}."
        )
    if kind != "grid":
        return
    for key, distribution in cell.space.items():
        if ranges.count(distribution) is None:
            raise ValueError(
                f"{key} must have choices, whole numbers or a step for sampler grid, "
                f"but it is {ranges.text(distribution)}."
            )
    size = ranges.grid_size(cell.space)
    if trials < size:
        sizes = " × ".join(f"{ranges.count(values)} of {key}" for key, values in cell.space.items())
        raise ValueError(
            f"trials must be at least the {size} points of the grid ({sizes}) for "
            f"sampler grid, but got {trials}."
        )
