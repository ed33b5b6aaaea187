"""Where a cell's accuracy is lost against joint training: in its features or in its heads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from study.analysis.curves import final_by_seed
from study.analysis.summary import CellSummary
from study.evidence import Interval, interval

JOINT = "joint"
READ_OUT, INFERENCE = "test/readout_accuracy", "test/lost/inference"


@dataclass(frozen=True)
class Lost:
    """Shares of accuracy that a cell loses, over seeds; None where nothing measured it.

    `joint_gap` = `features` + `heads`, each over the same seeds: with a joint cell beside it those
    that both have, without one all of its own. `inference` is over all of its own, and no summand.
    Less than nothing is lost where the read-out is above joint training, whose own classifier may
    be the weak part. What each is: the table of metrics in trainables/README.md.
    """

    cell: str
    joint_gap: Interval | None
    features: Interval | None
    heads: Interval | None
    inference: Interval | None


def lost(cells: Sequence[CellSummary]) -> list[Lost]:
    """Where each cell loses accuracy, in their order.

    The measure of a cell is the one with method joint in its group, of which it must be the only
    one. Joint training itself has no gap: of it only heads and inference are told.
    """
    return [_lost(cell, _measure(cell, cells)) for cell in cells]


def _measure(cell: CellSummary, cells: Sequence[CellSummary]) -> Mapping[int, float]:
    """The final accuracies of joint training under the same conditions, by seed."""
    joint = [other for other in cells if other.group == cell.group and other.method == JOINT]
    return joint[0].finals if len(joint) == 1 and cell.method != JOINT else {}


def _lost(cell: CellSummary, joint: Mapping[int, float]) -> Lost:
    read_out = final_by_seed(cell.confirmed, READ_OUT)
    # A ledger from before there was a read-out has a gap all the same.
    own = [seed for seed in cell.finals if seed in read_out or not read_out]
    shared = [seed for seed in own if seed in joint]
    return Lost(
        cell=cell.cell,
        joint_gap=_over([joint[seed] - cell.finals[seed] for seed in shared]),
        features=_over([joint[seed] - read_out[seed] for seed in shared if read_out]),
        heads=_over([read_out[seed] - cell.finals[seed] for seed in shared or own if read_out]),
        inference=_over([*final_by_seed(cell.confirmed, INFERENCE).values()]),
    )


def _over(values: Sequence[float]) -> Interval | None:
    return interval(values) if values else None
