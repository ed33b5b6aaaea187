import pytest
import torch
from torch import Tensor

from trainables.alignment import LOGIT_NORM, RIDGE, ClassifierAlignment, normalised
from trainables.heads import TaskHeads

CPU = torch.device("cpu")
WIDTH = 6


def build(samples: int = 32, seed: int = 0) -> ClassifierAlignment:
    # Slow, since untrained heads are small and the loss looks at their direction only.
    return ClassifierAlignment(samples, 5, 1e-3, CPU, torch.Generator().manual_seed(seed))


def features(count: int, seed: int, classes: range) -> tuple[Tensor, Tensor]:
    """`count` features a class around a mean of its own, with unequal and mixed deviations."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(classes.start, classes.stop).repeat_interleave(count)
    mixing = torch.randn(WIDTH, WIDTH, generator=generator)
    noise = torch.randn(len(labels), WIDTH, generator=generator) @ mixing
    centres = 12 * torch.randn(len(classes), WIDTH, generator=generator)
    return centres[labels - classes.start] + noise, labels


@pytest.mark.parametrize("count", [1, 3, 50])
def test_statistics_are_mean_and_covariance_in_no_more_room_than_needed(count: int) -> None:
    alignment = build()
    found, labels = features(count, 0, range(2))
    alignment.remember(found, labels, range(2))
    for label in range(2):
        own = found[labels == label]
        mean, factor = alignment._means[label], alignment.factor(label)
        torch.testing.assert_close(mean, own.mean(0))
        expected = torch.cov(own.T) if count > 1 else torch.zeros(WIDTH, WIDTH)
        torch.testing.assert_close(factor.T @ factor, expected, atol=1e-4, rtol=1e-4)
        assert factor.shape == (min(count, WIDTH), WIDTH)
    rows = min(count, WIDTH)
    triangle = rows * WIDTH - rows * (rows - 1) // 2
    assert alignment.bytes == 4 * 2 * (WIDTH + triangle)


def test_samples_converge_to_the_scaled_mean_and_the_covariance() -> None:
    alignment = build()
    # Two images: their covariance has one direction, and the ridge all others.
    found, labels = features(2, 0, range(1))
    alignment.remember(found, labels, range(1))
    drawn, found = alignment.sample(0, 0.9, 40_000).double(), found.double()
    expected = torch.cov(found.T) + RIDGE * torch.eye(WIDTH)
    scale = float(expected.diagonal().sum()) ** 0.5
    torch.testing.assert_close(drawn.mean(0), 0.9 * found.mean(0), atol=0.02 * scale, rtol=0)
    torch.testing.assert_close(torch.cov(drawn.T), expected, atol=0.03 * scale**2, rtol=0)
    values = torch.linalg.eigvalsh(torch.cov(drawn.T))
    torch.testing.assert_close(values[:-1], torch.full_like(values[:-1], RIDGE), atol=0, rtol=0.05)


def test_means_of_older_tasks_shrink(monkeypatch: pytest.MonkeyPatch) -> None:
    """0.9 + 0.1 (t_c + 1) / (t + 1) for a class of task t_c after task t, both from 0."""
    alignment = build()
    scales: dict[int, float] = {}

    def watch(label: int, scale: float, count: int) -> Tensor:
        scales[label] = scale
        return torch.zeros(count, WIDTH)

    monkeypatch.setattr(alignment, "sample", watch)
    alignment._draw([range(2), range(2, 3), range(3, 4), range(4, 5)])
    assert scales == pytest.approx({0: 0.925, 1: 0.925, 2: 0.95, 3: 0.975, 4: 1.0})


def test_logits_are_divided_by_the_mean_norm_over_tasks() -> None:
    logits = torch.tensor([[3.0, 4.0, 1.0], [0.0, 0.0, 2.0], [0.0, 0.0, 0.0]])
    membership = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    scaled = normalised(logits, membership)
    expected = logits / torch.tensor([[3.0], [1.0], [1.0]]) / LOGIT_NORM
    torch.testing.assert_close(scaled, expected)


def heads_of(tasks: list[int]) -> TaskHeads:
    heads = TaskHeads(WIDTH, CPU, torch.Generator().manual_seed(1))
    for classes in tasks:
        heads.add(classes)
    return heads


def test_the_first_task_aligns_nothing() -> None:
    alignment, heads = build(), heads_of([3])
    alignment.remember(*features(10, 0, range(3)), range(3))
    before = [one.clone() for one in heads.parameters()]
    alignment.align(heads)
    assert all(torch.equal(*pair) for pair in zip(before, heads.parameters(), strict=True))


def test_from_the_second_task_on_all_heads_move_and_classify() -> None:
    alignment, heads = build(), heads_of([3, 2, 3])
    found, labels = features(20, 0, range(8))
    for classes in heads.tasks:
        alignment.remember(found, labels, classes)
    before = [one.clone() for one in heads.parameters()]
    alignment.align(heads)
    after = heads.parameters()
    assert not any(torch.equal(*pair) for pair in zip(before, after, strict=True))
    assert all(one.grad is None for one in after)
    with torch.no_grad():
        right = heads.logits(found).argmax(1) == labels
    assert float(right.double().mean()) > 0.9


def test_resumes_bit_exactly() -> None:
    heads = [heads_of([2, 2]) for _ in range(2)]
    first, second = build(seed=0), build(seed=9)
    first.remember(*features(9, 0, range(4)), range(4))
    second.load_state_dict(first.state_dict())
    second._generator.set_state(first._generator.get_state())
    for alignment, one in zip((first, second), heads, strict=True):
        alignment.align(one)
    assert all(
        torch.equal(*pair)
        for pair in zip(heads[0].parameters(), heads[1].parameters(), strict=True)
    )
