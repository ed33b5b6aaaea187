"""What a study compares, and what the looks at it add up to."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

# Metrics that are shares of images, by how their names begin; all others stay in their own unit.
SHARES = ("test/", "val/")


@dataclass(frozen=True)
class ContrastRecord:
    """Two cells, `first` minus `second`, on a metric as measured after their last task.

    `non_inferiority`: it is settled once the first is known not to be lower by the margin.
    """

    name: str
    first: str
    second: str
    metric: str
    non_inferiority: bool


@dataclass(frozen=True)
class LookRecord:
    """A look at a contrast, with the entries of `study.evidence.Look`; NaN for what is not there.

    `of` names the search trials whose settings were compared, None for a cell without a winner.
    """

    contrast: str
    seeds: tuple[int, ...]
    mean: float
    std: float
    low: float
    high: float
    verdict: str
    reason: str
    by_less_than_margin: bool
    non_inferior: bool
    next_seeds: tuple[int, ...]
    of: tuple[str | None, str | None]


class Chosen(Protocol):
    """A cell's winner, as far as it is asked about here: its search trial."""

    @property
    def trial(self) -> str:
        """The search trial."""


def in_points(metric: str, value: float) -> float:
    """A metric in the unit of the margin: shares in percent, all others as they are measured."""
    return value * 100 if metric.startswith(SHARES) else value


def present_looks(
    contrast: ContrastRecord, looks: Iterable[LookRecord], winners: Mapping[str, Chosen]
) -> list[LookRecord]:
    """The looks at a contrast that are about the present winners of its cells, in their order.

    A study that is extended may find other winners: what was seen of earlier ones is not theirs.
    """
    of = winners_of(contrast, winners)
    return [look for look in looks if look.contrast == contrast.name and look.of == of]


def winners_of(
    contrast: ContrastRecord, winners: Mapping[str, Chosen]
) -> tuple[str | None, str | None]:
    """The search trials whose settings a contrast compares now, as `LookRecord.of` has them."""
    first, second = (winners.get(cell) for cell in (contrast.first, contrast.second))
    return (
        None if first is None else first.trial,
        None if second is None else second.trial,
    )


def is_open(
    contrast: ContrastRecord, looks: Iterable[LookRecord], winners: Mapping[str, Chosen]
) -> bool:
    """Whether a contrast is still to be looked at.

    That is before its first look, and as long as the last one asks for further seeds. A contrast
    that was looked at with other winners is closed: its error rate is spent on those.
    """
    own = [look for look in looks if look.contrast == contrast.name]
    present = present_looks(contrast, own, winners)
    if present:
        return bool(present[-1].next_seeds)
    return not any(look.seeds for look in own)


def further_seeds(
    contrasts: Iterable[ContrastRecord], looks: Iterable[LookRecord], winners: Mapping[str, Chosen]
) -> dict[str, tuple[int, ...]]:
    """Cell → the seeds that looks have asked for so far, beyond those that all cells have."""
    looked = list(looks)
    asked: dict[str, dict[int, None]] = {}
    for contrast in contrasts:
        for look in present_looks(contrast, looked, winners):
            for cell in (contrast.first, contrast.second):
                asked.setdefault(cell, {}).update(dict.fromkeys(look.next_seeds))
    return {cell: tuple(sorted(seeds)) for cell, seeds in asked.items() if seeds}


def contrasts_in(record: Mapping[str, Any]) -> tuple[ContrastRecord, ...]:
    """The contrasts that a session's record declares."""
    return tuple(
        ContrastRecord(
            entry["name"],
            entry["first"],
            entry["second"],
            entry["metric"],
            entry["non_inferiority"],
        )
        for entry in record["contrasts"]
    )


def look_in(record: Mapping[str, Any]) -> LookRecord:
    """The look that a record tells of."""
    numbers = {name: record[name] for name in ("mean", "std", "low", "high")}
    first, second = record["of"]
    return LookRecord(
        contrast=record["contrast"],
        seeds=tuple(record["seeds"]),
        **{name: math.nan if value is None else value for name, value in numbers.items()},
        verdict=record["verdict"],
        reason=record["reason"],
        by_less_than_margin=record["by_less_than_margin"],
        non_inferior=record["non_inferior"],
        next_seeds=tuple(record["next_seeds"]),
        of=(first, second),
    )
