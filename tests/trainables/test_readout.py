from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tests.trainables.draws import seeded
from trainables.readout import FOLDS, RIDGES, fit_read_out, folds_of


def by_hand(features: Tensor, labels: Tensor, classes: int) -> tuple[float, Tensor]:
    """The ridge and the weight, every fold fitted and scored on its images themselves."""
    x, y = features.double(), functional.one_hot(labels, classes).double()
    held = folds_of(labels, classes)

    def fitted(rows: Tensor, share: float) -> tuple[Tensor, Tensor, Tensor]:
        mean, level = x[rows].mean(0), y[rows].mean(0)
        scatter = (x[rows] - mean).T @ (x[rows] - mean)
        ridge = share * scatter.trace() / len(scatter) * torch.eye(len(scatter)).double()
        along = (x[rows] - mean).T @ (y[rows] - level)
        return mean, level, torch.linalg.solve(scatter + ridge, along)

    def error(share: float, fold: int) -> float:
        mean, level, weight = fitted(held != fold, share)
        off = y[held == fold] - level - (x[held == fold] - mean) @ weight
        return float(off.square().sum())

    errors = [sum(error(share, fold) for fold in range(FOLDS)) for share in RIDGES]
    best = RIDGES[errors.index(min(errors))]
    return best, fitted(held >= 0, best)[2]


def clouds(classes: int, each: int, width: int, noise: float) -> tuple[Tensor, Tensor]:
    """Features around one centre a class, on an offset that is no part of the answer."""
    labels = torch.arange(classes).repeat_interleave(each)
    centres = torch.randn(classes, width, generator=seeded(1))
    spread = torch.randn(len(labels), width, generator=seeded(2))
    return centres[labels] + noise * spread + 5.0, labels


def test_two_points_by_hand() -> None:
    """Features −1 and 1: without noise the smallest ridge is best, and shrinks as told."""
    features = torch.tensor([[-1.0], [1.0]]).repeat_interleave(10, 0)
    labels = torch.tensor([0, 1]).repeat_interleave(10)
    found = fit_read_out([features], labels, 2)
    assert found.ridge == RIDGES[-1] == 1e-8
    # Σx² = 20, Σx(y − ½) = ±10, λ = ridge · 20.
    torch.testing.assert_close(found.weight, torch.tensor([[-0.5, 0.5]]).double() / (1 + 1e-8))
    assert found.told(torch.tensor([[-0.2], [0.3], [9.0]])).tolist() == [0, 1, 1]


def test_a_class_between_two_others_is_told() -> None:
    """Its fitted value is never the largest: regression on indicators masks it."""
    features = torch.tensor([[-1.0], [0.0], [1.0]]).repeat_interleave(10, 0)
    labels = torch.arange(3).repeat_interleave(10)
    found = fit_read_out([features], labels, 3)
    fitted = (features.double() - found.mean) @ found.weight + 1 / 3
    assert 1 not in fitted.round(decimals=6).argmax(1).tolist()
    assert torch.equal(found.told(features), labels)


@pytest.mark.parametrize("noise", [0.3, 2.0])
def test_one_pass_gives_what_fitting_every_fold_gives(noise: float) -> None:
    features, labels = clouds(classes=6, each=17, width=9, noise=noise)
    ridge, weight = by_hand(features, labels, 6)
    found = fit_read_out(features.split(20), labels, 6)
    assert found.ridge == ridge
    torch.testing.assert_close(found.weight, weight, rtol=1e-8, atol=1e-10)
    # However the images come, and whatever the unit of the features is.
    whole = fit_read_out([1024 * features], labels, 6)
    assert whole.ridge == ridge
    torch.testing.assert_close(1024 * whole.weight, weight, rtol=1e-8, atol=1e-10)
    assert torch.equal(whole.told(1024 * features), found.told(features))


def test_folds_take_turns_in_every_class() -> None:
    labels = torch.tensor([0, 0, 0, 0, 0, 0, 1, 1, 2, 1])
    assert folds_of(labels, 4).tolist() == [0, 1, 2, 3, 4, 0, 1, 2, 2, 3]


@pytest.mark.parametrize(
    ("features", "labels", "told"),
    [
        # One image a class; two; features that do not vary; one class; more width than images.
        ([[0.0, 1], [3.0, 1]], [0, 1], [0, 1]),
        ([[0.0], [0.1], [5.0], [5.1]], [0, 0, 1, 1], [0, 0, 1, 1]),
        ([[2.0, 2.0]] * 4, [0, 0, 1, 1], [0, 0, 0, 0]),
        ([[1.0], [2.0]], [0, 0], [0, 0]),
        ([[0.0] * 9, [1.0] * 9, [2.0] * 9], [0, 1, 2], [0, 1, 2]),
    ],
)
def test_little_to_go_by(features: Any, labels: list[int], told: list[int]) -> None:
    found = fit_read_out([torch.tensor(features)], torch.tensor(labels), max(labels) + 1)
    assert bool(torch.isfinite(found.weight).all())
    assert found.told(torch.tensor(features)).tolist() == told


def test_features_that_are_not_finite_are_an_error() -> None:
    with pytest.raises(FloatingPointError, match="features must be finite"):
        fit_read_out([torch.tensor([[float("inf")], [1.0]])], torch.tensor([0, 1]), 2)
