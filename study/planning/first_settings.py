"""Settings that a cell tries first: those that hold without a search, and those of a past study."""

import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from study.ledger import LEDGER, METHOD, StudyRecords, TrialRecord, read_study
from study.planning.space import holding
from study.planning.spec import StudySpec

if TYPE_CHECKING:
    from study.planning.cells import Cell


LIMIT = 3
# Rates and decays that are null have the value of another one.
FOLLOWS = {
    "optim.alpha_lr": "optim.lr",
    "optim.head_lr": "optim.lr",
    "optim.prompt_lr": "optim.lr",
    "optim.alpha_weight_decay": "optim.weight_decay",
}


def settings_to_try_first(spec: StudySpec, cell: "Cell") -> list[dict[str, Any]]:
    """What a cell tries before its sampler is asked, as `search` of the study file says.

    Raises:
        ValueError: if search.warm_start cannot be read.
    """
    if not cell.searches:
        return []
    own = defaults(cell) if spec.search.defaults_first else None
    past = spec.search.warm_start
    settings = [] if own is None else [own]
    return settings if past is None else settings + from_study(past, cell, spec.objective)


def defaults(cell: "Cell") -> dict[str, Any] | None:
    """What the searched keys are without a search, by preset and recipe where one is selected.

    A rate that is null has the value of the one it follows. None where the settings cannot be
    built or lie outside of the ranges.
    """
    try:
        params = cell.config("search", {}, cell.search_seed).to_params()
    except ValueError:
        return None
    settings = holding(_of_space(params, cell), cell.conditions)
    return settings if cell.misfit(settings) is None else None


def from_study(
    folder: str, cell: "Cell", objective: Mapping[str, str], limit: int = LIMIT
) -> list[dict[str, Any]]:
    """The best settings of a past study for the method of `cell`, at most `limit`, all different.

    Those of the cell with the same id come first, by the first objective of this study; then the
    best of every other cell of the method, then their second best. A trial's whole configuration
    counts, not only what was searched then; keys that it did not have take what holds without a
    search. Settings that are no point of the space are the caller's to refuse.

    Args:
        folder: the past study's folder, or its ledger.
        cell: where the settings will be tried.
        objective: metrics with max or min; the first decides.
        limit: how many.

    Raises:
        ValueError: if the study cannot be read.
    """
    metric, mode = next(iter(objective.items()))
    sign = 1 if mode == "max" else -1
    method = {**cell.fixed, **cell.key}.get(METHOD)
    best: list[dict[str, Any]] = []
    for params in _ranked(_read(folder), cell.id, method, metric, sign):
        values = {**(defaults(cell) or {}), **_of_space(params, cell)}
        settings = holding({k: values[k] for k in cell.space if k in values}, cell.conditions)
        needed = holding({key: values.get(key) for key in cell.space}, cell.conditions)
        if settings not in best and needed.keys() == settings.keys():
            best.append(settings)
        if len(best) == limit:
            break
    return best


def check(spec: StudySpec, cells: Sequence["Cell"]) -> None:
    """Refuses a past study that cannot be read or has nothing for any method of `cells`.

    Raises:
        ValueError: naming search.warm_start, the path and what is allowed.
    """
    folder = spec.search.warm_start
    if folder is None:
        return
    methods = {str({**cell.fixed, **cell.key}.get(METHOD)) for cell in cells}
    past = _read(folder)
    held = {cell.method for cell in past.cells if _completed(past, cell.cell)}
    if methods and not methods & held:
        raise ValueError(
            f"search.warm_start must be a study with completed search trials of "
            f"{sorted(methods)}, but {folder} has some of {sorted(held)} only."
        )


def _of_space(params: Mapping[str, Any], cell: "Cell") -> dict[str, Any]:
    """The values of the searched keys, of those that `params` have."""
    values = {key: params[key] for key in cell.space if key in params}
    for key, leader in FOLLOWS.items():
        if key in values and values[key] is None:
            values[key] = params.get(leader)
    return values


def _read(folder: str) -> StudyRecords:
    path = Path(folder).expanduser()
    ledger = path / LEDGER if path.is_dir() else path
    rule = f"search.warm_start must be the folder of a study, or its {LEDGER}, but {ledger}"
    try:
        return _read_once(ledger, ledger.stat().st_mtime_ns)
    except OSError as error:
        raise ValueError(f"{rule} cannot be read: {error.strerror or error}.") from error
    except (ValueError, KeyError) as error:
        raise ValueError(f"{rule} is none: {error}") from error


@functools.lru_cache(maxsize=1)
def _read_once(ledger: Path, written: int) -> StudyRecords:
    """All cells of a study begin with the same past study; its ledger may be large."""
    return read_study(ledger)


def _ranked(
    past: StudyRecords, cell: str, method: str | None, metric: str, sign: int
) -> Iterator[Mapping[str, Any]]:
    """The params of completed search trials of a method, the most promising first."""
    own: list[Mapping[str, Any]] = []
    others = []
    for record in past.cells:
        if record.method != method:
            continue
        scored = [(trial.final(metric), trial) for trial in _completed(past, record.cell)]
        known = [(sign * value, trial) for value, trial in scored if value is not None]
        best = [trial.params for _, trial in sorted(known, key=lambda pair: -pair[0])]
        if record.cell == cell:
            own = best
        else:
            others.append(best)
    yield from own
    for row in itertools.zip_longest(*others):
        yield from (params for params in row if params is not None)


def _completed(past: StudyRecords, cell: str) -> list[TrialRecord]:
    return [trial for trial in past.searches(cell) if trial.status == "completed"]
