"""What accuracy costs: cells of the same data, by the seconds and the accuracy of a run."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from study.analysis import scaling
from study.analysis.scaling import LEVEL, Interval
from study.analysis.summary import CellSummary
from study.analysis.welch import welch
from study.fronts import front

DRAWS = 1000
# Of a trial's data, what does not make its task another one.
SAME_DATA = ("data.evaluation", "data.root", "data.cache", "data.manifest")
SPLIT = "data.split_sha256"
HASH_LENGTH = 8


@dataclass(frozen=True)
class CostPoint:
    """A cell among those on the same `data` (what sets it apart, as words).

    `seconds` is the mean compute time of one confirmation, `accuracy` the final one over seeds.
    `on_front` says that no other cell is as cheap and as accurate by their means; `front_share` how
    often that holds when seeds are drawn anew, None with fewer than two. `beaten_by` is the label
    of a cell that both costs less and is more accurate for certain: t-tests of both, paired over
    common seeds where there are two, else Welch's; the larger p of the two stands for the pair, and
    Holm's correction is over all such pairs of the data.
    """

    cell: str
    label: str
    data: str
    seconds: float
    accuracy: Interval
    on_front: bool
    front_share: float | None
    beaten_by: str | None


def cost_accuracy(cells: Sequence[CellSummary]) -> list[CostPoint]:
    """All confirmed cells, by data, the most accurate first."""
    groups: dict[str, list[CellSummary]] = {}
    for one in cells:
        if one.final.n:
            groups.setdefault(data_of(one), []).append(one)
    found = []
    for data, members in groups.items():
        found += _points(data_words(data, groups), members)
    return found


def _points(data: str, members: Sequence[CellSummary]) -> list[CostPoint]:
    seconds = [math.fsum(_seconds(one).values()) / len(_seconds(one)) for one in members]
    kept = set(front([(o.final.mean, s) for o, s in zip(members, seconds, strict=True)], (1, -1)))
    shares = _front_shares(members)
    beaten = _beaten(members, seconds)
    points = [
        CostPoint(
            cell=one.cell,
            label=one.label,
            data=data,
            seconds=seconds[at],
            accuracy=one.final,
            on_front=at in kept,
            front_share=shares[at] if shares else None,
            beaten_by=beaten.get(at),
        )
        for at, one in enumerate(members)
    ]
    return sorted(points, key=lambda one: -one.accuracy.mean)


def _seconds(one: CellSummary) -> dict[int, float]:
    """Compute time of each confirmation by seed."""
    return {trial.seed: trial.compute_seconds for trial in one.confirmed}


def _front_shares(members: Sequence[CellSummary]) -> list[float] | None:
    """How often each is on the front when seeds are drawn with replacement.

    Cells with the same seeds get the same draw, since a seed moves them together.
    """
    if any(one.final.n < 2 for one in members):
        return None
    random = np.random.default_rng(0)
    picks: dict[tuple[int, ...], np.ndarray] = {}
    accuracy, cost = [], []
    for one in members:
        seeds = tuple(sorted(one.finals))
        if seeds not in picks:
            picks[seeds] = random.integers(0, len(seeds), (DRAWS, len(seeds)))
        times = _seconds(one)
        accuracy.append(np.array([one.finals[at] for at in seeds])[picks[seeds]].mean(axis=1))
        cost.append(np.array([times[at] for at in seeds])[picks[seeds]].mean(axis=1))
    a, c = np.array(accuracy), np.array(cost)
    as_good = (a[None] >= a[:, None]) & (c[None] <= c[:, None])
    better = (a[None] > a[:, None]) | (c[None] < c[:, None])
    return [float(one) for one in (~(as_good & better).any(axis=1)).mean(axis=1)]


def _beaten(members: Sequence[CellSummary], seconds: Sequence[float]) -> dict[int, str]:
    """Cell by place → label of the most accurate one that is better and cheaper for certain."""
    pairs = [
        (at, other)
        for at in range(len(members))
        for other in range(len(members))
        if seconds[other] < seconds[at] and members[other].final.mean > members[at].final.mean
    ]
    p_values = [_both(members[other], members[at]) for at, other in pairs]
    found: dict[int, int] = {}
    for (at, other), p in zip(pairs, scaling.holm(p_values), strict=True):
        best = found.get(at)
        if p <= 1 - LEVEL and (
            best is None or members[other].final.mean > members[best].final.mean
        ):
            found[at] = other
    return {at: members[other].label for at, other in found.items()}


def _both(one: CellSummary, other: CellSummary) -> float:
    """P of the claim that both differ: the larger of the two, NaN where either is not known."""
    p_values = (_p(one.finals, other.finals), _p(_seconds(one), _seconds(other)))
    return math.nan if any(math.isnan(p) for p in p_values) else max(p_values)


def _p(first: Mapping[int, float], second: Mapping[int, float]) -> float:
    common = sorted(set(first) & set(second))
    if len(common) > 1:
        differences = [first[seed] - second[seed] for seed in common]
        return scaling.paired(differences, scaling.size(first.values(), second.values()))[1]
    return welch(list(first.values()), list(second.values()))[1]


def data_of(one: CellSummary) -> str:
    """All that says which data a cell's confirmations saw, as one text."""
    params = one.confirmed[0].params
    known = {k: v for k, v in params.items() if k.startswith("data.") and k not in SAME_DATA}
    return json.dumps(known, sort_keys=True, default=str)


def data_words(data: str, every: Mapping[str, object]) -> str:
    """What sets this data apart from that of the other groups, in as few keys as will do."""
    own, tables = json.loads(data), [json.loads(one) for one in every]
    varying = [key for key in own if len({str(one.get(key)) for one in tables}) > 1]
    # A hash says nothing to people; what it tells apart differs in another key, or is a new split.
    plain = [key for key in varying if key != SPLIT]
    for keys in (("data.name",), ("data.tasks",), ("data.name", "data.tasks"), plain, varying):
        if len({str([one.get(key) for key in keys]) for one in tables}) == len(tables):
            break
    return ", ".join(_data_word(key, own[key]) for key in keys if key in own)


def _data_word(key: str, value: Any) -> str:
    if key == "data.name":
        return str(value)
    if key == "data.tasks":
        return f"{value} tasks"
    short = str(value)[:HASH_LENGTH] if key == SPLIT else value
    return f"{key.removeprefix('data.')} {short}"
