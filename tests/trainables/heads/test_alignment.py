import pytest
import torch
from torch import Tensor

from tests.trainables.draws import seeded
from tests.trainables.trials import same
from trainables.heads import TaskHeads
from trainables.heads.alignment import ClassifierAlignment, normalised

CPU = torch.device("cpu")
WIDTH = 6
RIDGE = 1e-4


def build(samples: int = 32, seed: int = 0) -> ClassifierAlignment:
    # Slow, since untrained heads are small and the loss looks at their direction only.
    return ClassifierAlignment(samples, 5, 1e-3, CPU, seeded(seed))


def features(count: int, seed: int, classes: range) -> tuple[Tensor, Tensor]:
    """`count` features a class around a mean of its own, with unequal and mixed deviations."""
    generator = seeded(seed)
    labels = torch.arange(classes.start, classes.stop).repeat_interleave(count)
    mixing = torch.randn(WIDTH, WIDTH, generator=generator)
    noise = torch.randn(len(labels), WIDTH, generator=generator) @ mixing
    centres = 12 * torch.randn(len(classes), WIDTH, generator=generator)
    return centres[labels - classes.start] + noise, labels


@pytest.mark.parametrize("count", [1, 3, 50])
def test_statistics_are_mean_and_covariance_in_no_more_room_than_needed(count: int) -> None:
    alignment = build()
    drawn, labels = features(count, 0, range(2))
    alignment.remember(drawn, labels, range(2))
    for label in range(2):
        own = drawn[labels == label]
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
    pair, labels = features(2, 0, range(1))
    alignment.remember(pair, labels, range(1))
    drawn, pair = alignment.sample(0, 0.9, 40_000).double(), pair.double()
    expected = torch.cov(pair.T) + RIDGE * torch.eye(WIDTH)
    scale = float(expected.diagonal().sum()) ** 0.5
    torch.testing.assert_close(drawn.mean(0), 0.9 * pair.mean(0), atol=0.02 * scale, rtol=0)
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
    scaled = normalised(logits, membership, 0.1)
    expected = logits / torch.tensor([[3.0], [1.0], [1.0]]) / 0.1
    torch.testing.assert_close(scaled, expected)


def heads_of(tasks: list[int]) -> TaskHeads:
    heads = TaskHeads(WIDTH, CPU, seeded(1), "small_normal")
    for classes in tasks:
        heads.add(classes)
    return heads


def test_from_the_second_task_on_all_heads_move_and_classify() -> None:
    first, single = build(), heads_of([3])
    first.remember(*features(10, 0, range(3)), range(3))
    first.align(single)
    assert same(single.parameters(), heads_of([3]).parameters())
    alignment, heads = build(), heads_of([3, 2, 3])
    drawn, labels = features(20, 0, range(8))
    for classes in heads.tasks:
        alignment.remember(drawn, labels, classes)
    before = [parameter.clone() for parameter in heads.parameters()]
    alignment.align(heads)
    after = heads.parameters()
    assert not any(torch.equal(*pair) for pair in zip(before, after, strict=True))
    assert all(parameter.grad is None for parameter in after)
    with torch.no_grad():
        right = heads.logits(drawn).argmax(1) == labels
    assert float(right.double().mean()) > 0.9


def test_resumes_bit_exactly() -> None:
    heads = [heads_of([2, 2]) for _ in range(2)]
    first, second = build(seed=0), build(seed=9)
    first.remember(*features(9, 0, range(4)), range(4))
    second.load_state_dict(first.state_dict())
    second._generator.set_state(first._generator.get_state())
    for alignment, own_heads in zip((first, second), heads, strict=True):
        alignment.align(own_heads)
    assert same(heads[0].parameters(), heads[1].parameters())
