"""A ridge head where its sums are singular, tiny or resumed."""

import pytest
import torch
from torch import Tensor

from tests.trainables.draws import seeded
from tests.trainables.trials import same
from trainables.heads import RidgeHead

CPU = torch.device("cpu")


def drawn(count: int, seed: int) -> tuple[Tensor, Tensor]:
    return torch.randn(count, 4, generator=seeded(seed)), torch.arange(count) % 2


def parallel(powers: tuple[int, ...]) -> tuple[RidgeHead, Tensor]:
    """A head, and features of one direction: their products leave no room for a small λ."""
    head = RidgeHead(4, None, powers, CPU, seeded())
    return head, 1e4 * torch.linspace(1, 2, 10)[:, None] * torch.ones(10, 4)


def test_the_next_larger_lambda_is_taken_where_rounding_makes_sums_singular() -> None:
    head, features = parallel((-12, 0, 6))
    head.fit(features, torch.arange(10) % 2, range(2))
    head._ridge = 1e-12
    assert head._solve() > 1e-12
    assert bool(torch.isfinite(head.logits(features)).all())


def test_no_lambda_at_all_is_said() -> None:
    head, features = parallel((-12,))
    with pytest.raises(FloatingPointError, match=r"no λ up to 1e-12 .* may hold larger ones"):
        head.fit(features, torch.arange(10) % 2, range(2))


def test_single_images_and_features_of_zero_are_taken() -> None:
    head = RidgeHead(4, 8, range(-8, 9), CPU, seeded())
    for task in range(3):
        head.fit(torch.zeros(1, 4), torch.tensor([task]), range(task, task + 1))
    assert not bool(head.logits(torch.ones(2, 4)).any())
    features, labels = drawn(1, 0)
    head.fit(features, labels + 3, range(3, 4))
    assert float(head.logits(features)[0, 3]) == pytest.approx(1.0, abs=1e-3)


def test_resumes_bit_exactly_from_half_of_the_sums() -> None:
    first, second = (RidgeHead(4, 16, range(-8, 9), CPU, seeded(seed)) for seed in (0, 1))
    first.fit(*drawn(8, 0), range(2))
    state = first.state_dict()
    assert state["gram"].shape == (16 * 17 // 2,)
    second.load_state_dict(state)
    second._generator.set_state(first._generator.get_state())
    features, labels = drawn(9, 1)
    for head in (first, second):
        head.fit(features, labels + 2, range(2, 4))
    assert same(first.state_dict(), second.state_dict())
    assert torch.equal(first.logits(features), second.logits(features))
    assert first.bytes == 4 * (16 * 16 + 2 * 16 * 4 + 4 * 16)
