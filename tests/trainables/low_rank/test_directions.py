from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from tests.trainables.draws import normal, seeded
from trainables.low_rank.directions import DirectionStack, pair_norm, similarity

IN, OUT = 9, 7
NORMALISERS = ("frobenius", "factor_norms")
Pair = tuple[Tensor, Tensor]


def random_pairs(ranks: Sequence[int] = (3, 1, 2), seed: int = 0) -> list[Pair]:
    generator = seeded(seed)
    return [(normal(OUT, k, seed=generator), normal(k, IN, seed=generator)) for k in ranks]


def dense_norm(up: Tensor, down: Tensor, normaliser: str) -> Tensor:
    if normaliser == "frobenius":
        return (up @ down).square().sum().sqrt()
    return up.square().sum().sqrt() * down.square().sum().sqrt()


def filled(pairs: Sequence[Pair], normaliser: str = "frobenius") -> DirectionStack:
    stack = DirectionStack(IN, OUT).double()
    for task, (up, down) in enumerate(pairs, start=1):
        norm = pair_norm(up, down, normaliser)
        stack.push(up, down, torch.tensor(0.5 + task), norm, norm, task)
    return stack


@pytest.mark.parametrize("normaliser", NORMALISERS)
def test_pairs_add_as_old_ones_what_they_did_and_then_as_unit_pairs(normaliser: str) -> None:
    pairs = random_pairs()
    stack = filled(pairs, normaliser)
    before = sum((0.5 + k) * up @ down for k, (up, down) in enumerate(pairs, start=1))
    torch.testing.assert_close(stack.delta(), before, atol=1e-12, rtol=0)
    with torch.no_grad():
        stack.alpha.copy_(torch.tensor([0.3, -1.2, 2.0], dtype=torch.float64))
    expected = torch.zeros(OUT, IN, dtype=torch.float64)
    for alpha, (up, down) in zip((0.3, -1.2, 2.0), pairs, strict=True):
        norm = dense_norm(up, down, normaliser)
        assert float(pair_norm(up, down, normaliser)) == pytest.approx(float(norm), rel=1e-12)
        expected += alpha * (up @ down) / norm
    torch.testing.assert_close(stack.delta(), expected, atol=1e-13, rtol=0)


def test_a_share_is_the_norm_over_the_scale() -> None:
    ((up, down),) = random_pairs([2])
    stack = DirectionStack(IN, OUT).double()
    norm = pair_norm(up, down, "frobenius")
    stack.push(up, down, torch.tensor(0.8), norm, 4 * norm, task=1)
    assert float(stack.share) == pytest.approx(0.25, abs=1e-15)
    assert float(stack.alpha.detach()) == pytest.approx(0.8 * 4 * float(norm), rel=1e-7)
    torch.testing.assert_close(stack.delta(), 0.8 * up @ down, atol=1e-6, rtol=0)


def test_inner_products_are_the_dense_ones() -> None:
    pairs, ((up, down),) = random_pairs(), random_pairs([4], seed=1)
    units = torch.stack([(u @ d / torch.linalg.matrix_norm(u @ d)).flatten() for u, d in pairs])
    stack = filled(pairs)
    torch.testing.assert_close(stack.gram(), units @ units.T, atol=1e-13, rtol=0)
    torch.testing.assert_close(stack.inner(up, down), units @ (up @ down).flatten())


@pytest.mark.parametrize("normaliser", NORMALISERS)
def test_similarity_is_the_mean_cosine_of_dense_matrices(normaliser: str) -> None:
    pairs, ((up, down),) = random_pairs(), random_pairs([4], seed=1)
    new = (up @ down).flatten()
    cosines = [
        abs(float(torch.nn.functional.cosine_similarity((u @ d).flatten(), new, dim=0)))
        for u, d in pairs
    ]
    expected = sum(cosines) / len(cosines)
    assert similarity(filled(pairs, normaliser), up, down) == pytest.approx(expected, rel=1e-12)
    own = filled(pairs[:1], normaliser)
    assert similarity(own, -3 * pairs[0][0], pairs[0][1]) == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("normaliser", NORMALISERS)
def test_a_pair_of_zeros_is_harmless(normaliser: str) -> None:
    pairs = random_pairs()
    pairs[1] = (torch.zeros_like(pairs[1][0]), pairs[1][1])
    stack = filled(pairs, normaliser)
    assert stack.alpha[1] == 0
    assert stack.share[1] == 1
    stack.delta().sum().backward()
    assert stack.alpha.grad is not None
    assert stack.alpha.grad[1] == 0
    assert bool(torch.isfinite(stack.alpha.grad).all())
    assert bool(torch.isfinite(stack.gram()).all())
    up, down = pairs[0]
    assert similarity(filled(pairs[1:2]), up, down) == 0
    assert similarity(stack, torch.zeros_like(up), down) == 0


def test_a_stack_is_its_state() -> None:
    stack = filled(random_pairs())
    fresh = DirectionStack(IN, OUT).double()
    fresh.load(stack.state_dict())
    assert torch.equal(fresh.delta(), stack.delta())
    assert fresh.task.tolist() == [1, 2, 3]
    with torch.no_grad():
        fresh.alpha.zero_()
    assert bool((stack.alpha != 0).all())
