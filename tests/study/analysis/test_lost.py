"""What a cell loses against joint training, seed by seed."""

from collections.abc import Mapping

import pytest

from study.analysis.lost import INFERENCE, READ_OUT, Lost, lost
from study.analysis.summary import summarise
from study.ledger import Record
from tests.study.histories import study_of
from tests.study.report.ledgers import accuracy, made_up_study

TASKS = 4
ABOVE = {0: 0.10, 1: 0.20, 2: 0.15}
"""By how much the read-out is above the accuracy, by seed."""


def found(records: list[Record], above: Mapping[int, float]) -> dict[str, Lost]:
    """By method, where confirmations of these seeds end with a read-out `above` their accuracy."""
    seeds = {record["trial"]: record["seed"] for record in records if record["kind"] == "trial"}
    for record in records:
        if record["kind"] == "task" and "test/accuracy" in record["metrics"]:
            metrics, seed = record["metrics"], seeds[record["trial"]]
            if record["task"] == TASKS and seed in above:
                metrics[READ_OUT] = metrics["test/accuracy"] + above[seed]
                metrics[INFERENCE] = 0.3 + 0.01 * seed
    cells = summarise(study_of(records))
    methods = {cell.cell: cell.method for cell in cells}
    return {methods[result.cell]: result for result in lost(cells)}


def study(*methods: str, seeds: tuple[int, ...] = (0, 1, 2)) -> list[Record]:
    return made_up_study(methods, (TASKS,), seeds, layers=1)


def test_features_and_heads_add_up_to_the_gap_on_the_same_seeds() -> None:
    result = found(study("inflora", "joint"), ABOVE)["inflora"]
    assert result.heads and result.features and result.joint_gap and result.inference
    gaps = [accuracy("joint", seed, TASKS, TASKS) - accuracy("inflora", seed, TASKS, TASKS)
            for seed in ABOVE]  # fmt: skip
    assert result.joint_gap.mean == pytest.approx(sum(gaps) / 3)
    assert result.heads.mean == pytest.approx(0.15)
    assert result.heads.half == pytest.approx(4.302653 * 0.05 / 3**0.5)
    assert result.features.mean == pytest.approx(sum(gaps) / 3 - 0.15)
    assert result.features.mean + result.heads.mean == pytest.approx(result.joint_gap.mean)
    assert result.inference.mean == pytest.approx(0.31)


def test_a_seed_without_read_out_is_in_none_of_the_three() -> None:
    result = found(study("inflora", "joint"), {0: 0.1, 2: 0.3})["inflora"]
    assert result.heads and result.features and result.joint_gap
    assert result.heads.mean == pytest.approx(0.2)
    assert {result.heads.n, result.features.n, result.joint_gap.n} == {2}
    assert result.features.mean + result.heads.mean == pytest.approx(result.joint_gap.mean)


def test_what_nothing_measures_is_none() -> None:
    alone = found(study("inflora", "sd_lora"), ABOVE)["inflora"]
    assert (alone.joint_gap, alone.features) == (None, None)
    assert alone.heads and alone.heads.n == 3
    # Joint training is the measure and has none.
    joint = found(study("inflora", "joint"), ABOVE)["joint"]
    assert (joint.joint_gap, joint.features) == (None, None)
    assert joint.heads and joint.inference
    # A ledger from before there was a read-out still has its gap.
    before = found(study("inflora", "joint"), {})["inflora"]
    assert (before.features, before.heads, before.inference) == (None, None, None)
    assert before.joint_gap and before.joint_gap.n == 3
    one = found(study("inflora", "joint", seeds=(0,)), ABOVE)["inflora"]
    assert one.heads and one.heads.mean == pytest.approx(0.1) and one.heads.half != one.heads.half


def test_another_group_s_joint_training_is_no_measure() -> None:
    records = made_up_study(("inflora",), (TASKS,), layers=1)
    other = made_up_study(("joint",), (2 * TASKS,), layers=1)
    cells = [record for record in other if record["kind"] not in ("study", "finished")]
    result = found([*records[:-1], *cells, records[-1]], ABOVE)["inflora"]
    assert result.joint_gap is None and result.heads is not None
