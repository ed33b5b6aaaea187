"""What trials of small networks cost where nothing was measured: reference timings, scaled.

`timings.csv` has seconds in units of `unit_seconds`, so that two seconds tell what they are here.
"""

import csv
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

from study.planning.cells import Plan, Role
from study.planning.costs.probe import Load, loads_of, use_threads
from study.planning.costs.trial_cost import ROLES, Costs, TrialCost, kind_of, typical

TIMINGS = Path(__file__).with_name("timings.csv")
MEASURING_SECONDS = 2.0
UNIT_IMAGES, TOKENS, WIDTH, HEADS = 32, 17, 160, 4
SOURCE = "reference timings"
SCALED = (
    "costs are those of the reference timings that come along, scaled by two seconds of measuring "
    "this machine: right to a factor of about two; --probe measures the trials themselves"
)
MOST_NAMED = 3
# Columns that are numbers.
PARTS = ("setup", "task", "new", "image", "step", "evaluated")


@dataclass(frozen=True)
class Timing:
    """What a method costs on a network, in units, on one thread.

    `setup` of a trial; `task` and each of its `new` images beside training; each `image` and each
    `step` of an epoch; each image that is `evaluated`.
    """

    setup: float
    task: float
    new: float
    image: float
    step: float
    evaluated: float

    def seconds(self, load: Load, epochs: int, batch: int) -> float:
        """Units that a task takes."""
        steps = -(-load.epoch // batch)
        return (
            self.task
            + self.new * load.new
            + epochs * (self.image * load.epoch + self.step * steps)
            + self.evaluated * (load.held_out + load.diagnosed)
        )


@cache
def timings() -> dict[tuple[str, int, str], Timing]:
    """The reference timings, by network, size of its images and method."""
    with TIMINGS.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(line for line in file if not line.startswith("#"))
        return {
            (row["backbone"], int(row["image_size"]), row["method"]): Timing(
                **{part: float(row[part]) for part in PARTS}
            )
            for row in rows
        }


def unit_seconds(seconds: float = MEASURING_SECONDS) -> float:
    """Seconds of one image in a forward and backward pass through a small transformer block.

    The median of all that fit into so many `seconds`, on torch's threads.
    """
    import torch

    block = torch.nn.TransformerEncoderLayer(
        WIDTH, HEADS, 4 * WIDTH, dropout=0.0, batch_first=True, activation="gelu"
    )
    images = torch.zeros(UNIT_IMAGES, TOKENS, WIDTH)
    took: list[float] = []
    end = time.perf_counter() + seconds
    while len(took) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        block(images).sum().backward()
        took.append(time.perf_counter() - start)
    return median(took) / UNIT_IMAGES


def reference_costs(plan: Plan, known: Costs, gpu: bool) -> tuple[Costs, list[str]]:
    """The costs of trials that `known` says nothing of, and lines on what they are taken from.

    `gpu`: trials run on one, of which the reference timings say nothing. Nor do they of networks
    that are not in the table, of other sizes of images, and of data that are not here.
    """
    asked = [cell for cell in plan.cells if any((cell.id, role) not in known for role in ROLES)]
    if not asked:
        return {}, []
    if gpu:
        return {}, [_not_covered(["trials on a GPU"])]
    rows: dict[str, Timing] = {}
    missing: dict[str, None] = {}
    for cell in asked:
        params = typical(cell, "confirm")
        key = _key(params)
        if key in timings():
            rows[cell.id] = timings()[key]
        else:
            missing[f"{key[2]} on {key[0]} at {key[1]} pixels"] = None
    costs: dict[tuple[str, Role], TrialCost] = {}
    if rows:
        threads = use_threads(plan.spec.resources.cpu)
        try:
            unit = unit_seconds(MEASURING_SECONDS)
        finally:
            use_threads(threads)
        found: dict[str, TrialCost] = {}
        for cell in asked:
            for role in ROLES:
                needed = cell.searches or role == "confirm"
                if not needed or cell.id not in rows or (cell.id, role) in known:
                    continue
                params = typical(cell, role)
                kind = f"{role} {kind_of(params)}"
                try:
                    found[kind] = found.get(kind) or _cost(rows[cell.id], unit, params)
                except (ValueError, OSError):
                    missing[f"data {params['data.name']}, which are not here"] = None
                    continue
                costs[cell.id, role] = found[kind]
    lines = [_not_covered(list(missing))] if missing else []
    if costs:
        lines.insert(0, SCALED)
    return costs, lines


def _key(params: Mapping[str, Any]) -> tuple[str, int, str]:
    """The row of the table that says what a trial costs."""
    size = params["backbone.image_size"] or params["data.image_size"]
    return params["backbone.name"], size, params["method.name"]


def _cost(timing: Timing, unit: float, params: Mapping[str, Any]) -> TrialCost:
    epochs, batch = params["optim.epochs"], params["optim.batch_size"]
    return TrialCost(
        seconds=tuple(unit * timing.seconds(load, epochs, batch) for load in loads_of(params)),
        setup=unit * timing.setup,
        checkpoint_bytes=None,
        record_bytes=0.0,
        device_bytes=None,
        source=SOURCE,
    )


def _not_covered(what: Sequence[str]) -> str:
    listed = ", ".join(what[:MOST_NAMED]) + (" and others" if len(what) > MOST_NAMED else "")
    return f"not measured: the reference timings have no {listed}"
