import typing

import pytest
import torch
from torch import Tensor

from tests.trainables.draws import normal, seeded
from trainables.low_rank.down_init import STRATEGIES, LayerView, fill_up
from trainables.low_rank.dual_gpm import DualGPM
from trainables.methods.inflora.config import InfLoRAConfig

DIM = 12
IN_FREE_SPACE = ("designed", "null_space_random", "null_space_smallest", "gradient")


def random_moment(seed: int) -> Tensor:
    inputs = normal(60, DIM, seed=seed) * 0.8 ** torch.arange(DIM)
    return inputs.T @ inputs / 60


def view(threshold: float | None = None, seed: int = 0) -> LayerView:
    """A layer with an old task (none where `threshold` is None) and the moment of a new one."""
    memory = DualGPM(DIM)
    if threshold is not None:
        memory.absorb(random_moment(seed + 100), threshold)
    generator = seeded(seed)
    slopes = normal(8, DIM, seed=generator)
    return LayerView(memory, random_moment(seed), slopes, generator)


def test_strategies_are_those_that_the_config_names() -> None:
    kind = typing.get_type_hints(InfLoRAConfig)["down_init"]
    assert tuple(STRATEGIES) == typing.get_args(kind)


@pytest.mark.parametrize("name", STRATEGIES)
def test_gives_rank_rows_from_the_given_generator_alone(name: str) -> None:
    rows = STRATEGIES[name](view(0.9), 3)
    assert (rows.shape, rows.dtype) == ((3, DIM), torch.float64)
    assert torch.linalg.matrix_rank(rows) == 3
    assert torch.equal(rows, STRATEGIES[name](view(0.9), 3))
    # In a full memory only what ignores it gives rows.
    full = view()
    full.memory.absorb(torch.eye(DIM, dtype=torch.float64), 1.0)
    assert full.memory.free_dim == 0
    assert len(STRATEGIES[name](full, 4)) == (0 if name in IN_FREE_SPACE else 4)


@pytest.mark.parametrize("name", IN_FREE_SPACE)
@pytest.mark.parametrize("threshold", [0.6, 0.9, 0.9999])
def test_projected_rows_are_orthonormal_and_free_never_more_than_there_are(
    name: str, threshold: float
) -> None:
    layer = view(threshold)
    rows = STRATEGIES[name](layer, 6)
    assert len(rows) == min(6, layer.memory.free_dim)
    torch.testing.assert_close(rows @ rows.T, torch.eye(len(rows), dtype=rows.dtype))
    assert layer.memory.angle(rows) == pytest.approx(90)


def test_gaussian_rows_have_the_mean_square_norm_of_designed_ones() -> None:
    layer = view(0.9)
    norms = torch.cat([STRATEGIES["gaussian"](layer, DIM).square().sum(1) for _ in range(200)])
    assert float(norms.mean()) == pytest.approx(1, abs=0.05)


def test_orthonormal_rows_reach_into_the_memory() -> None:
    layer = view(0.9)
    rows = STRATEGIES["orthonormal"](layer, 4)
    torch.testing.assert_close(rows @ rows.T, torch.eye(4, dtype=rows.dtype))
    angle = layer.memory.angle(rows)
    assert angle is not None and angle < 80


def test_principal_rows_are_leading_directions_whatever_is_remembered() -> None:
    layer, free = view(0.9), view()
    rows = STRATEGIES["principal"](layer, 3)
    torch.testing.assert_close(rows, STRATEGIES["principal"](free, 3))
    leading = STRATEGIES["designed"](free, 3)
    torch.testing.assert_close(rows.T @ rows, leading.T @ leading)


def test_smallest_rows_are_the_weakest_that_the_task_still_holds() -> None:
    energies = torch.tensor([5.0, 4, 3, 2, 1, 0, 0, 0, 0, 0, 0, 0], dtype=torch.float64)
    memory = DualGPM(DIM, "sigma2", dual=False)
    memory.absorb(torch.diag(torch.eye(DIM, dtype=torch.float64)[4]), 0.99)
    layer = LayerView(memory, torch.diag(energies), None, torch.Generator())
    rows = STRATEGIES["null_space_smallest"](layer, 2)
    # Direction 4 is an old task's and 5 to 11 hold nothing: 3 and 2 are left.
    expected = torch.zeros(DIM, dtype=torch.float64)
    expected[[2, 3]] = 1
    torch.testing.assert_close(rows.square().sum(0), expected)


def test_gradient_rows_are_its_leading_right_singular_vectors_and_no_more_than_it_has() -> None:
    layer = view()
    assert layer.gradient is not None
    _, _, right = torch.linalg.svd(layer.gradient)
    rows = STRATEGIES["gradient"](layer, 3)
    torch.testing.assert_close(rows.T @ rows, right[:3].T @ right[:3])
    flat = LayerView(layer.memory, layer.moment, layer.gradient[:2], layer.generator)
    assert len(STRATEGIES["gradient"](flat, 5)) == 2


@pytest.mark.parametrize("kept", [0, 2, 5])
def test_filling_up_keeps_the_rows_and_adds_orthonormal_ones(kept: int) -> None:
    rows = STRATEGIES["orthonormal"](view(), 5)[:kept]
    filled = fill_up(rows, 5)
    assert torch.equal(filled[:kept], rows)
    torch.testing.assert_close(filled @ filled.T, torch.eye(5, dtype=rows.dtype))
