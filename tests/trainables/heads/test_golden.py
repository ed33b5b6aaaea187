"""Scores, losses and fits of heads against numbers from elsewhere."""

import numpy as np
import pytest
import torch

from tests.trainables.draws import seeded
from trainables.config import HeadFields
from trainables.heads import Classifier, ClassMeans, RidgeHead, TaskHeads, cosface_loss
from trainables.heads.cosine import cosine_scores
from trainables.heads.ridge import squared_errors

CPU = torch.device("cpu")


@pytest.mark.parametrize(("margin", "loss"), [(0.1, 0.126928), (0.0, 0.018150)])
def test_cosface_takes_the_margin_off_the_own_cosine(margin: float, loss: float) -> None:
    """Cosines .5 of the own class and .3 of the other; classes of other tasks count for nothing."""
    logits = 20 * torch.tensor([[0.9, 0.5, 0.3], [-0.9, 0.3, 0.5]])
    measured = cosface_loss(logits, torch.tensor([1, 2]), range(1, 3), 20, margin)
    assert float(measured) == pytest.approx(loss, abs=1e-6)


def test_a_classifier_has_the_margin_in_training_alone() -> None:
    """The gradient is that of the loss with the margin; scores are s cos (f, w) in both."""
    drawn = np.random.default_rng(0)
    features, weight = drawn.normal(size=(5, 4)), drawn.normal(size=(3, 4))
    labels = np.array([0, 2, 1, 1, 0])
    fields = HeadFields(head="cosface", head_scale=7.0, head_margin=0.25)
    head = Classifier(fields, 4, CPU, seeded())
    (own,) = head.add(3)
    head.load_state_dict({"weights": [torch.tensor(weight, dtype=torch.float32)], "biases": []})
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    cosines = features / lengths @ (weight / np.linalg.norm(weight, axis=1, keepdims=True)).T
    scores = head.trained_logits(torch.tensor(features, dtype=torch.float32))
    np.testing.assert_allclose(scores.detach(), 7 * cosines, rtol=1e-5)
    assert torch.equal(scores, head.logits(torch.tensor(features, dtype=torch.float32)))
    harder = 7 * (cosines - 0.25 * np.eye(3)[labels])
    chances = np.exp(harder) / np.exp(harder).sum(1, keepdims=True)
    loss = head.loss(scores, torch.tensor(labels), range(3))
    assert float(loss.detach()) == pytest.approx(
        -np.log(chances[np.arange(5), labels]).mean(), rel=1e-5
    )
    assert own.shape == (3, 4)  # no bias


def test_cosines_of_nothing_are_zero_and_not_nan() -> None:
    scores = cosine_scores(torch.zeros(1, 3), torch.eye(3), 20.0)
    assert torch.equal(scores, torch.zeros(1, 3))


def test_the_length_of_cosine_weights_changes_no_score() -> None:
    heads = TaskHeads(4, CPU, seeded(), "small_normal", scale=20.0)
    heads.add(3)
    features = torch.randn(5, 4, generator=seeded(1))
    before = heads.logits(features)
    heads.overwrite(3 * heads.joined()[0].detach())
    torch.testing.assert_close(heads.logits(features), before)


@pytest.mark.parametrize("projection", [None, 12])
def test_the_ridge_head_is_the_regression_on_all_images_at_once(projection: int | None) -> None:
    """Task by task as all together, by numpy; λ is that of the last task."""
    head = RidgeHead(5, projection, (-2, 0, 2), CPU, seeded())
    drawn = np.random.default_rng(1)
    everything, flags = [], []
    for task in range(3):
        features = drawn.normal(size=(9, 5)) + 1
        labels = np.tile(2 * task + np.array([0, 1]), 5)[:9]
        ridge = head.fit(
            torch.tensor(features, dtype=torch.float32),
            torch.tensor(labels),
            range(2 * task, 2 * task + 2),
        )["head/ridge"]
        everything.append(features)
        flags.append(np.eye(6)[labels])
    rows = np.concatenate(everything)
    weight = head.state_dict()["projection"]
    if weight is not None:
        assert weight.shape == (5, 12)
        rows = np.maximum(rows @ weight.double().numpy(), 0)
    size = rows.shape[1]
    solved = np.linalg.solve(rows.T @ rows + ridge * np.eye(size), rows.T @ np.concatenate(flags))
    told = head.logits(torch.tensor(np.concatenate(everything), dtype=torch.float32))
    np.testing.assert_allclose(told, rows @ solved, atol=2e-4)
    assert ridge in (0.01, 1.0, 100.0)


def test_a_golden_ridge_regression() -> None:
    """Features (1, 0), (0, 2), (1, 1) of classes 0, 1, 1 and λ = 1: by hand.

    G + λI = (3, 1; 1, 6), its inverse (6, −1; −1, 3) / 17; Q = (1, 1; 0, 3).
    """
    head = RidgeHead(2, None, (0,), CPU, seeded())
    features = torch.tensor([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]])
    head.fit(features, torch.tensor([0, 1, 1]), range(2))
    expected = torch.tensor([[6.0, 3.0], [-1.0, 8.0]]) / 17
    torch.testing.assert_close(head.logits(torch.eye(2)), expected)


@pytest.mark.parametrize("images", [4, 30])
def test_errors_of_lambda_are_those_of_a_regression_each(images: int) -> None:
    """With fewer images than features and with more: numpy solves both the same way."""
    drawn = np.random.default_rng(2)
    rows, held = drawn.normal(size=(images, 8)), drawn.normal(size=(6, 8))
    flags, told = np.eye(3)[drawn.integers(0, 3, images)], np.eye(3)[drawn.integers(0, 3, 6)]
    ridges = (1e-8, 1e-2, 1.0, 1e3)
    expected = [
        np.mean((held @ np.linalg.solve(rows.T @ rows + r * np.eye(8), rows.T @ flags) - told) ** 2)
        for r in ridges
    ]
    ours = [torch.tensor(matrix) for matrix in (rows, flags, held, told)]
    measured = squared_errors(ours[0], ours[1], ours[2], ours[3], ridges)
    np.testing.assert_allclose(measured[1:], expected[1:], rtol=1e-9)
    # So near to singular that solvers differ.
    np.testing.assert_allclose(measured[0], expected[0], rtol=1e-3 if images == 4 else 1e-9)


def test_class_means_are_of_all_images_of_a_class() -> None:
    means = ClassMeans(2, "euclidean", CPU)
    features = torch.tensor([[1.0, 0.0], [3.0, 0.0], [0.0, 5.0]])
    means.fit(features, torch.tensor([1, 1, 0]), range(2))
    assert means.means.tolist() == [[0.0, 5.0], [2.0, 0.0]]
    assert means.logits(torch.tensor([[2.0, 1.0]])).tolist() == [[-20.0, -1.0]]
    assert means.bytes == 16
