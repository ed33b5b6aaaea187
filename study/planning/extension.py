"""How a study that has begun may change when it goes on, so that all its trials stay comparable."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from study import errors
from study.ledger import History, records
from study.planning import study_file
from study.planning.contrasts import UntilDecided
from study.planning.spec import StudySpec

# What does not change the meaning of a trial.
FREE = (
    "trials",
    "budget",
    "resources",
    "max_concurrent",
    "retries",
    "storage",
    "export",
    "tracking",
)
# What verdicts rest on: it may change until the first confirmation begins.
OF_VERDICTS = ("contrasts", "margin")


def extended_spec(history: History, overrides: Sequence[str]) -> StudySpec:
    """The spec of the last session, with `overrides` ("key=value", as of --set) applied.

    Raises:
        ValueError: if an override is wrong or would change what trials mean; names the key and
            both values.
    """
    source = history.source
    if history.study is None:
        raise ValueError(
            f"{source} must begin with the record of a study, but has none: it was stopped before "
            f"its first trial; start it anew."
        )
    if history.version < records.VERSION:
        raise ValueError(
            f"{source} must be of version {records.VERSION} to be gone on with, but it is of "
            f"version {history.version}: go on with the release of this project that wrote it; "
            f"--report, --replay and --compare read it."
        )
    if history.study.once:
        raise ValueError(f"{source} must be of a study, but is of one configuration (--once).")
    before = StudySpec.from_plain(history.study.spec, source)
    plain = study_file.apply(_plain(before), overrides, list(StudySpec.model_fields), source)
    after = StudySpec.from_plain(plain, source)
    mistakes = [
        *_of_grid(before.grid, after.grid, after.fixed),
        *_of_seeds(before.seeds, after.seeds),
        *_of_trials(history, after),
        *_of_verdicts(history, _plain(before), _plain(after)),
        *_of_rest(_plain(before), _plain(after)),
    ]
    errors.refuse(mistakes, source)
    return after


def _of_grid(
    before: Mapping[str, Sequence[Any]],
    after: Mapping[str, Sequence[Any]],
    fixed: Mapping[str, Any],
) -> Iterator[str]:
    """Other axes, and axes with a value less."""
    for key, axis in before.items():
        if key not in after:
            now = f"it is fixed at {fixed[key]!r}" if key in fixed else "it is not there"
            yield f"grid {key} must keep {list(axis)} on --resume, but {now}."
        elif any(value not in _plain(after[key]) for value in _plain(axis)):
            yield (
                f"grid {key} must keep {list(axis)} on --resume (values can be added), "
                f"but got {list(after[key])}."
            )
    for key in after:
        if key not in before:
            yield (
                f"grid must keep its axes {list(before)} on --resume, but got {key} as well: "
                f"{list(after[key])}."
            )


def has_confirmed(history: History) -> bool:
    """Whether a confirmation has begun: what is compared is settled by then."""
    return any(trial.role == "confirm" for trial in history.trials.values())


def _of_verdicts(
    history: History, before: Mapping[str, Any], after: Mapping[str, Any]
) -> Iterator[str]:
    """Other contrasts, or another margin, once there are results that they could be made for."""
    for key in OF_VERDICTS:
        if before[key] != after[key] and has_confirmed(history):
            yield (
                f"{key} must stay {before[key]!r} on --resume once a confirmation has begun, but "
                f"got {after[key]!r}; --report DIR --contrasts FILE compares what is declared "
                f"later, and says so."
            )


def _of_seeds(
    before: Sequence[int] | UntilDecided, after: Sequence[int] | UntilDecided
) -> Iterator[str]:
    """Another first seed, with which the searches run, and seeds that are gone."""
    if isinstance(before, UntilDecided) or isinstance(after, UntilDecided):
        if before != after:
            old, new = (
                seeds.model_dump() if isinstance(seeds, UntilDecided) else list(seeds)
                for seeds in (before, after)
            )
            yield (
                f"seeds must stay {old!r} on --resume where they come until decided (the error "
                f"rate is spent over first and at_most), but got {new!r}."
            )
    elif after[0] != before[0] or not set(before) <= set(after):
        yield (
            f"seeds must begin with {before[0]} and keep {list(before)} on --resume (seeds can be "
            f"added), but got {list(after)}."
        )


def _of_trials(history: History, after: StudySpec) -> Iterator[str]:
    """Fewer trials than a cell has had."""
    searches = Counter(trial.cell for trial in history.trials.values() if trial.role == "search")
    most = max(searches.values(), default=0)
    if after.trials < most:
        yield (
            f"trials must be at least {most} on --resume, as many as were launched in a cell, "
            f"but got {after.trials}."
        )


def _of_rest(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    """What may not change at all."""
    for key, old in before.items():
        if key in (*FREE, *OF_VERDICTS, "grid", "seeds"):
            continue
        new = after[key]
        if old != new and isinstance(old, dict) and isinstance(new, dict):
            for name in sorted({*old, *new}):
                was, becomes = (values.get(name, "not given") for values in (old, new))
                of_axis = key == "fixed" and name in {*before["grid"], *after["grid"]}
                if was != becomes and not of_axis:
                    label = f"{key} {name}" if key == "fixed" else f"{key}.{name}"
                    yield _message(label, was, becomes)
        elif old != new or (key == "objective" and list(old) != list(new)):
            yield _message(key, old, new)


def _message(key: str, old: Any, new: Any) -> str:
    return (
        f"{key} must stay {old!r} on --resume, but got {new!r}; what may change is "
        f"{', '.join(FREE)}, and grid and seeds may get further values."
    )


def _plain(value: Any) -> Any:
    """As it is after the way through the ledger: lists and not tuples."""
    return json.loads(json.dumps(value.to_plain() if isinstance(value, StudySpec) else value))
