import pytest
import torch
from torch import Tensor, nn

from tests.trainables.low_rank.test_alpha_scope import (
    SCOPES,
    close,
    deltas,
    make_layers,
    open_pairs,
    with_old_pairs,
)
from trainables.low_rank.alpha_scope import alpha_scopes
from trainables.low_rank.branch import LowRankLinear
from trainables.low_rank.distill import fit

TAU = 9e-4


def combine(layer: LowRankLinear, name: str, factors: Tensor) -> None:
    """Makes the open pair of a slice Σ_k factors_k · (what the scope's α_k multiplies there)."""
    stack = layer.stack_of(name)
    branch = layer.branch_of(name)
    scales = (factors * stack.share)[stack.owner]
    branch.up = nn.Parameter((stack.up * scales).detach())
    branch.down = nn.Parameter(stack.down.clone())


@pytest.mark.parametrize("scope", SCOPES)
def test_an_exact_combination_of_old_pairs_is_dropped_and_nothing_moves(scope: str) -> None:
    layers, scopes = with_old_pairs(scope)
    factors = torch.tensor([0.7, -1.5, 0.2], dtype=torch.float64)
    for layer in layers.values():
        for name in layer.slices:
            combine(layer, name, factors)
    before_alpha = [tied.stacks[0].alpha.detach().clone() for tied in scopes]
    for tied in scopes:
        tied.open(0.8, reset=False)
    before = deltas(layers)
    for tied, old in zip(scopes, before_alpha, strict=True):
        tied.close(4, "frobenius", TAU)
        for stack in tied.stacks:
            assert stack.task.tolist() == [1, 2, 3]
            torch.testing.assert_close(stack.alpha, old + 0.8 * factors, atol=1e-6, rtol=0)
    torch.testing.assert_close(deltas(layers), before, atol=1e-6, rtol=0)
    assert not any(len(layer.branches) for layer in layers.values())


@pytest.mark.parametrize("scope", SCOPES)
def test_an_orthogonal_pair_is_kept(scope: str) -> None:
    layers, scopes = with_old_pairs(scope)
    for layer in layers.values():
        for name in layer.slices:
            branch = layer.branch_of(name)
            # Rows outside the inputs that old pairs read (3 of rank 2, in 8 or 12 dimensions).
            basis = torch.linalg.svd(layer.stack_of(name).down)[2][6:]
            branch.down = nn.Parameter(basis[:2].clone())
    for tied in scopes:
        tied.open(0.8, reset=False)
        coefficients, residual = fit(tied.stacks, tied.pairs)
        assert residual == pytest.approx(1.0, abs=1e-12)
        assert float(coefficients.abs().max()) < 1e-12
        tied.close(4, "frobenius", 0.999)
        assert all(stack.task.tolist() == [1, 2, 3, 4] for stack in tied.stacks)


@pytest.mark.parametrize("scope", SCOPES)
def test_the_fit_is_that_of_dense_matrices(scope: str) -> None:
    _, scopes = with_old_pairs(scope)
    for tied in scopes:
        columns, target = [], []
        for stack, pair in zip(tied.stacks, tied.pairs, strict=True):
            units = [
                stack.share[k] * stack.up[:, stack.owner == k] @ stack.down[stack.owner == k]
                for k in range(3)
            ]
            columns.append(torch.stack([unit.flatten() for unit in units], dim=1))
            target.append((pair.up @ pair.down).detach().flatten())
        matrix, new_pair = torch.cat(columns), torch.cat(target)
        expected = torch.linalg.lstsq(matrix, new_pair[:, None]).solution[:, 0]
        coefficients, residual = fit(tied.stacks, tied.pairs)
        torch.testing.assert_close(coefficients, expected, atol=1e-10, rtol=1e-10)
        missed = (matrix @ expected - new_pair).square().sum() / new_pair.square().sum()
        assert residual == pytest.approx(float(missed), rel=1e-9)


def test_slices_of_one_magnitude_are_kept_or_dropped_together() -> None:
    """A combination in one slice alone: dropped there if it has an α of its own."""
    kept = {}
    for scope in SCOPES:
        layers, scopes = with_old_pairs(scope)
        combine(layers["layer_8"], "q", torch.tensor([0.7, -1.5, 0.2], dtype=torch.float64))
        before = deltas(layers)
        for tied in scopes:
            tied.open(1.0, reset=False)
            tied.close(4, "frobenius", TAU)
        kept[scope] = [len(stack) for tied in scopes for stack in tied.stacks]
        torch.testing.assert_close(deltas(layers), before, atol=1e-6, rtol=0)
    assert kept == {"global": [4] * 4, "layer": [4] * 4, "branch": [3, 4, 4, 4]}


def test_equal_old_directions_share_a_new_one_between_them() -> None:
    layers = make_layers(("q",))
    scopes = alpha_scopes(layers, "branch")
    for task in (1, 2):
        open_pairs(layers, seed=1)
        for tied in scopes:
            tied.open(0.8, reset=False)
        close(scopes, task)
    open_pairs(layers, seed=1)
    for tied in scopes:
        coefficients, residual = fit(tied.stacks, tied.pairs)
        assert residual < 1e-12
        assert float(coefficients[0]) == pytest.approx(float(coefficients[1]), rel=1e-6)
