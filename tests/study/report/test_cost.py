"""What accuracy costs, what a study was to cost, and what the subspace memory takes."""

import pytest
import torch

from study.analysis.summary import summarise
from study.evidence import NotEnough
from study.ledger import CellRecord, StudyRecords, TrialRecord
from study.report.section import Picture, findings
from study.report.sections.cost import cost
from study.report.sections.cost.cost import CostPoint, cost_accuracy
from study.report.sections.cost.estimate import Estimated, estimated
from study.report.sections.cost.memory import NUMBER_BYTES, overhead
from tests.study.histories import study_of
from tests.study.report.engine_ledgers import Script, several_objectives
from tests.study.report.ledgers import made_up_study
from tests.study.report.made_up_trials import enough, study, trial
from trainables.low_rank.dual_gpm import DualGPM

WIDTH, BRANCH = 10, 600


def points(*cells: tuple[str, float, float, str]) -> dict[str, CostPoint]:
    """Cells of a name, an accuracy, seconds, and their data, on three seeds each."""
    trials = [
        trial(
            [{"test/accuracy": accuracy + 0.01 * seed, "time/train_seconds": seconds + seed}],
            seed,
            {"data.name": data},
            cell=name,
        )
        for name, accuracy, seconds, data in cells
        for seed in range(3)
    ]
    records = [CellRecord(name, {"method.name": name}, {}, {}, name, 5) for name, *_ in cells]
    return {point.cell: point for point in cost_accuracy(summarise(study(trials, records)))}


def test_the_front_is_what_nothing_else_is_as_cheap_and_as_accurate_as() -> None:
    costs = points(
        ("cheap", 0.7, 10, "icons"),
        ("dear", 0.9, 100, "icons"),
        ("between", 0.6, 50, "icons"),
        ("twin", 0.7, 10, "icons"),
    )
    assert list(costs) == ["dear", "cheap", "twin", "between"]
    # Of equal ones the first.
    assert [name for name, point in costs.items() if point.on_front] == ["dear", "cheap"]
    assert [point.seconds for point in costs.values()] == pytest.approx([101, 11, 11, 51])
    none = study([trial([], status="failed")], [CellRecord("cell", {}, {}, {}, "inflora", 5)])
    assert cost_accuracy(summarise(none)) == []


def test_cells_on_other_data_are_not_compared() -> None:
    costs = points(("easy", 0.9, 10, "fashion_mnist"), ("hard", 0.4, 100, "icons"))
    assert all(point.on_front for point in costs.values())
    assert {point.data for point in costs.values()} == {"fashion_mnist", "icons"}


@pytest.mark.filterwarnings("error")
def test_without_times_the_cost_is_drawn_all_the_same() -> None:
    records = made_up_study(tasks=(3,), layers=1)
    for record in records:
        if record["kind"] == "task":
            own = record["metrics"].items()
            record["metrics"] = {key: x for key, x in own if not key.startswith("time/")}
    (picture, _) = cost.section(findings(study_of(records))).blocks
    assert isinstance(picture, Picture)
    assert [axes.get_xscale() for axes in picture.draw().axes] == ["linear"]


def hours(study: StudyRecords) -> float:
    return sum(trial.seconds for trial in study.trials) / 3600


def test_estimates_stand_beside_what_happened() -> None:
    study = study_of(several_objectives())
    assert [(own.what, own.estimate, own.actual) for own in estimated(study)] == [
        ("trials", 14, 17),
        ("hours of all trials", 0.01, pytest.approx(hours(study))),
        # Half a GPU a trial.
        ("GPU hours", 0.1, pytest.approx(0.5 * hours(study))),
        ("wall hours", 0.05, pytest.approx(50 / 3600)),
        ("checkpoints and ledger, MB", 3000, pytest.approx(9 * 2.0)),
        ("device memory of a trial, GB", 1.5, 2.0),
    ]
    assert Estimated("", 14, 17).error == pytest.approx(14 / 17 - 1)
    assert estimated(study_of(made_up_study(tasks=(10,)))) == []


@pytest.mark.parametrize(("trial_hours", "share"), [(4.0, 0.25), (None, None)])
def test_a_share_of_a_gpu_that_was_measured_is_that_of_the_estimate(
    trial_hours: float | None, share: float | None
) -> None:
    script = Script()
    script.open(resources={"cpu": 1, "gpu": "auto"})
    script.add("estimate", gpu_hours=1.0, trial_hours=trial_hours, source="x")
    script.confirm(script.cell({"method.name": "inflora"}), 4, 0.5)
    study = study_of(script.records)
    (actual,) = [own.actual for own in estimated(study) if own.what == "GPU hours"]
    assert actual == (None if share is None else pytest.approx(share * hours(study)))


def filled(used: list[int], seed: int = 0, extra: float = 0.0, dual: bool = True) -> TrialRecord:
    """A layer of 10 dimensions with so many of them used after each task."""
    rows = [
        {
            "subspace/dim_used/layer_00": float(dims),
            "subspace/dim_free/layer_00": float(WIDTH - dims),
            "memory/subspace_bytes": 8.0 * WIDTH * (min(dims, WIDTH - dims) if dual else dims)
            + extra,
            "memory/branch_bytes": float(BRANCH),
        }
        for dims in used
    ]
    return trial(rows, seed, {"method.dual": dual})


def test_bytes_of_both_kinds_of_memory_against_the_branches_saved() -> None:
    own = enough(overhead([filled([2, 6, 9]), filled([2, 6, 9], 1)]))
    assert [row.measured.mean for row in own.rows] == [160, 320, 80]
    assert [row.dual for row in own.rows] == [160, 320, 80]
    assert [row.plain for row in own.rows] == [160, 480, 720]
    # After task t the branches of t − 1 earlier tasks need not be stored.
    assert [row.saved for row in own.rows] == [0, 600, 1200]
    assert [row.share for row in own.rows] == [None, pytest.approx(320 / 600), 80 / 1200]
    assert (own.break_even, own.dual_used) == (2, True)


def test_a_memory_that_costs_more_than_it_saves_never_breaks_even() -> None:
    assert enough(overhead([filled([2, 6, 9], extra=1e6)])).break_even is None
    late = enough(overhead([filled([5, 5, 5], extra=700.0)]))
    assert [row.measured.mean for row in late.rows] == [1100] * 3
    assert late.break_even == 3


def test_a_plain_memory_is_known_as_one() -> None:
    own = enough(overhead([filled([2, 9], dual=False)]))
    assert own.dual_used is False
    assert [row.measured.mean for row in own.rows] == [row.plain for row in own.rows]
    assert enough(overhead([filled([2]), filled([2], 1, dual=False)])).dual_used is None


def test_the_bytes_are_those_of_the_memory_itself() -> None:
    memory = DualGPM(WIDTH)
    torch.manual_seed(0)
    inputs = torch.randn(4, WIDTH, dtype=torch.float64)
    memory.absorb(inputs.T @ inputs, 0.9999)
    used = WIDTH - memory.free_dim
    assert memory.bytes == NUMBER_BYTES * WIDTH * min(used, memory.free_dim)


def test_without_a_memory_or_its_layers_nothing_is_made_up() -> None:
    none = [{"memory/subspace_bytes": 0.0, "memory/branch_bytes": 5.0}] * 3
    for trials in ([], [trial(none)], [trial([{"test/accuracy": 0.5}])]):
        assert overhead(trials) == NotEnough("no subspace memory was recorded")
    no_layers = [{"memory/subspace_bytes": 7.0, "memory/branch_bytes": 5.0}] * 3
    own = enough(overhead([trial(no_layers)]))
    assert [(row.plain, row.dual) for row in own.rows] == [(None, None)] * 3
