import pytest
import torch

from study.analysis.entities import TrialRecord
from study.analysis.evidence import NotEnough
from study.analysis.overhead import NUMBER_BYTES, Overhead, overhead
from tests.study.analysis.made_up_trials import trial
from trainables.low_rank.dual_gpm import DualGPM

WIDTH, BRANCH = 10, 600


def filled(used: list[int], seed: int = 0, extra: float = 0.0, dual: bool = True) -> TrialRecord:
    """A layer of 10 dimensions with so many of them used after each task."""
    rows = [
        {
            "subspace/dim_used/layer_00": float(one),
            "subspace/dim_free/layer_00": float(WIDTH - one),
            "memory/subspace_bytes": 8.0 * WIDTH * (min(one, WIDTH - one) if dual else one) + extra,
            "memory/branch_bytes": float(BRANCH),
        }
        for one in used
    ]
    return trial(rows, seed, {"method.dual": dual})


def of(found: Overhead | NotEnough) -> Overhead:
    assert isinstance(found, Overhead), found
    return found


def test_bytes_of_both_kinds_of_memory_against_the_branches_saved() -> None:
    found = of(overhead([filled([2, 6, 9]), filled([2, 6, 9], 1)]))
    assert [one.measured.mean for one in found.rows] == [160, 320, 80]
    assert [one.dual for one in found.rows] == [160, 320, 80]
    assert [one.plain for one in found.rows] == [160, 480, 720]
    # After task t the branches of t − 1 earlier tasks need not be stored.
    assert [one.saved for one in found.rows] == [0, 600, 1200]
    assert [one.share for one in found.rows] == [None, pytest.approx(320 / 600), 80 / 1200]
    assert found.break_even == 2
    assert found.dual_used is True


def test_a_memory_that_costs_more_than_it_saves_never_breaks_even() -> None:
    assert of(overhead([filled([2, 6, 9], extra=1e6)])).break_even is None
    late = of(overhead([filled([5, 5, 5], extra=700.0)]))
    assert [one.measured.mean for one in late.rows] == [1100] * 3
    assert late.break_even == 3


def test_a_plain_memory_is_known_as_one() -> None:
    found = of(overhead([filled([2, 9], dual=False)]))
    assert found.dual_used is False
    assert [one.measured.mean for one in found.rows] == [one.plain for one in found.rows]
    assert of(overhead([filled([2]), filled([2], 1, dual=False)])).dual_used is None


def test_the_bytes_are_those_of_the_memory_itself() -> None:
    memory = DualGPM(WIDTH)
    torch.manual_seed(0)
    inputs = torch.randn(4, WIDTH, dtype=torch.float64)
    memory.absorb(inputs.T @ inputs, 0.9999)
    used = WIDTH - memory.free_dim
    assert memory.bytes == NUMBER_BYTES * WIDTH * min(used, memory.free_dim)


def test_without_a_memory_or_its_layers_nothing_is_made_up() -> None:
    none = [{"memory/subspace_bytes": 0.0, "memory/branch_bytes": 5.0}] * 3
    assert overhead([trial(none)]) == NotEnough("no subspace memory was recorded")
    assert isinstance(overhead([]), NotEnough)
    assert isinstance(overhead([trial([{"test/accuracy": 0.5}])]), NotEnough)
    no_layers = [{"memory/subspace_bytes": 7.0, "memory/branch_bytes": 5.0}] * 3
    found = of(overhead([trial(no_layers)]))
    assert [(one.plain, one.dual) for one in found.rows] == [(None, None)] * 3
