"""LoRA-DRS: the space that old updates are taken off for, updates in it, and the triplet loss."""

import logging
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.trainables.draws import normal, seeded
from tests.trainables.trials import results_of, same, tiny, trained
from trainables.low_rank.moments import second_moments
from trainables.method import Backward
from trainables.methods.lora_drs.method import _start_sparse
from trainables.methods.lora_drs.space import Projected, drift_resistant
from trainables.methods.lora_drs.triplet import triplet_loss
from trainables.trainer import SequentialTrainer

MOMENT = torch.diag(torch.tensor([4.0, 3.0, 2.0, 1.0], dtype=torch.float64))
UPDATE = torch.tensor([[1.0, -1.0, 1.0, 1.0]], dtype=torch.float64)


def test_an_update_in_the_drift_resistant_space_by_hand() -> None:
    basis = drift_resistant(MOMENT, 0.85)
    assert basis.shape == (4, 3)
    scaled, bare = Projected(basis, True), Projected(basis, False)
    expected = [0.577350, -0.577350, 0.577350, 0]
    assert scaled.right(UPDATE)[0].tolist() == pytest.approx(expected, abs=1e-6)
    assert scaled.left(UPDATE.T)[:, 0].tolist() == pytest.approx(expected, abs=1e-6)
    assert bare.right(UPDATE)[0].tolist() == pytest.approx([1, -1, 1, 0])


@pytest.mark.parametrize(
    ("share", "count"), [(0.4, 1), (0.41, 2), (0.7, 2), (0.71, 3), (0.95, 4), (1.0, 4)]
)
def test_the_fewest_directions_that_hold_the_share(share: float, count: int) -> None:
    """Of 4, 3, 2, 1 the shares are .4, .7, .9 and 1; turned, they are the same."""
    turn, _ = torch.linalg.qr(normal(4, 4, seed=3))
    moment = turn @ (MOMENT / 10) @ turn.T
    basis = drift_resistant(moment + 1e-12 * torch.eye(4), share - 1e-9)
    assert basis.shape == (4, count)
    torch.testing.assert_close(basis @ basis.T, turn[:, :count] @ turn[:, :count].T)


def test_a_moment_of_nothing_leaves_no_room_and_one_that_is_not_finite_is_refused() -> None:
    nowhere = Projected(drift_resistant(torch.zeros(4, 4, dtype=torch.float64), 0.99), True)
    assert nowhere.basis.shape == (4, 0) and not nowhere.right(UPDATE).any()
    with pytest.raises(ValueError, match="moment must be finite"):
        drift_resistant(MOMENT * float("nan"), 0.99)


def by_loops(features: Any, labels: Any, means: Any, margin: float) -> float:
    """The triplet loss as the sentence about it says, one image at a time."""
    unit = [row / np.linalg.norm(row) for row in features]
    old = [row / np.linalg.norm(row) for row in means]
    losses = []
    for at, row in enumerate(unit):
        distances = [float(np.linalg.norm(row - other)) for other in unit]
        own = [far for far, label in zip(distances, labels, strict=True) if label == labels[at]]
        others = [far for far, label in zip(distances, labels, strict=True) if label != labels[at]]
        others += [float(np.linalg.norm(row - mean)) for mean in old]
        losses.append(max(0.0, max(own) - min(others) + margin) if others else 0.0)
    return float(np.mean(losses))


@pytest.mark.parametrize("classes", [1, 2, 5])
@pytest.mark.parametrize("old", [0, 3])
@pytest.mark.parametrize("margin", [0.0, 0.3, 2.0])
def test_the_triplet_loss_by_loops(classes: int, old: int, margin: float) -> None:
    features, means = normal(9, 4, seed=classes), normal(old, 4, seed=20)
    labels = torch.arange(9) % classes
    found = triplet_loss(features, labels, means, margin)
    expected = by_loops(features.numpy(), labels.numpy(), means.numpy(), margin)
    assert float(found) == pytest.approx(expected, abs=1e-9)


def test_the_triplet_loss_of_equal_images_and_of_images_alone_has_a_finite_gradient() -> None:
    features = normal(4, 3).index_select(0, torch.tensor([0, 0, 1, 2])).requires_grad_()
    triplet_loss(features, torch.tensor([0, 0, 1, 2]), torch.zeros(0, 3), 1.0).backward()
    assert features.grad is not None
    assert bool(torch.isfinite(features.grad).all()) and bool(features.grad.any())


def test_up_starts_with_one_number_a_column() -> None:
    up = torch.nn.Parameter(torch.zeros(50, 40))
    _start_sparse(up, seeded())
    assert torch.equal((up != 0).sum(0), torch.ones(40, dtype=torch.int64))
    assert 0.005 < float(up.detach()[up != 0].std()) < 0.015


def test_moments_are_those_of_the_network_less_old_updates() -> None:
    """2 W0 − W = W0 − Σ ΔW, inside only; afterwards every bit is as before."""
    trainer = SequentialTrainer(tiny("lora_drs"))
    layers, method = trainer._model.layers, trainer._method
    start = {name: layer.weight.detach().clone() for name, layer in layers.items()}
    trainer.train_task()
    trainer.train_task()
    now = {name: layer.weight.detach().clone() for name, layer in layers.items()}
    with method._subtracted():  # type: ignore[attr-defined]
        for name, layer in layers.items():
            assert not torch.equal(now[name], start[name])
            expected = start[name] - (now[name] - start[name])
            torch.testing.assert_close(layer.weight, expected, rtol=0, atol=1e-6)
    assert all(torch.equal(layer.weight, now[name]) for name, layer in layers.items())


@pytest.mark.parametrize("up_side", ["free", "inputs"])
def test_steps_are_the_optimizer_s_projected_from_the_second_task_on(up_side: str) -> None:
    """With plain gradient descent a step is −lr · gradient, so that each can be told by hand."""
    changes = {
        "optim.optimizer": "sgd", "optim.momentum": 0.0, "optim.lr": 100.0, "optim.epochs": 1,
        "optim.batch_size": 32, "optim.schedule": "constant", "method.up_side": up_side,
        "method.share": 0.8,
    }  # fmt: skip
    trainer = SequentialTrainer(tiny("lora_drs", changes))
    method: Any = trainer._method
    step, seen = method.step, []

    def watched(optimizer: torch.optim.Optimizer, backward: Backward) -> Tensor:
        layer = trainer._model.layers["layer_01"]
        factors = [getattr(layer.branch_of("k"), name) for name in ("up", "down")]
        before = [factor.clone() for factor in factors]
        loss: Tensor = step(optimizer, backward)
        moved = [factor - start for factor, start in zip(factors, before, strict=True)]
        seen.append((moved, [-100 * factor.grad for factor in factors]))
        return loss

    method.step = watched
    trainer.train_task()
    for moved, plain in seen:
        torch.testing.assert_close(moved, plain, rtol=1e-3, atol=1e-6)
    with method._subtracted():
        images = trainer._batches(trainer._stream[1].train).plain()
        moments = second_moments(trainer._model, trainer._model.layers, images)
    values, vectors = np.linalg.eigh(moments["layer_01"].numpy())
    count = int((np.cumsum(values[::-1]) / values.sum() < 0.8).sum()) + 1
    leading = vectors[:, ::-1][:, :count]
    onto = torch.tensor(leading @ leading.T / np.linalg.norm(leading @ leading.T)).float()
    assert count < 12
    seen.clear()
    trainer.train_task()
    for (up, down), (plain_up, plain_down) in seen:
        torch.testing.assert_close(down, plain_down @ onto, rtol=1e-3, atol=1e-6)
        expected = plain_up if up_side == "free" else onto @ plain_up
        torch.testing.assert_close(up, expected, rtol=1e-3, atol=1e-6)
        assert float(down.abs().max()) > 1e-5


def test_classes_are_told_by_means_of_unit_features_that_never_change() -> None:
    trainer = SequentialTrainer(tiny("lora_drs"))
    method: Any = trainer._method
    trainer.train_task()
    first = method._means.means.clone()
    trainer.train_task()
    assert method._means.means.shape[0] == 6 and torch.equal(method._means.means[:3], first)
    features = normal(5, trainer._model.width).float()
    cosines = torch.nn.functional.cosine_similarity(
        features[:, None], method._means.means[None], dim=2
    )
    torch.testing.assert_close(method.logits(features), cosines)
    heads = method.state_dict()["heads"]
    assert not heads["weights"] and not heads["biases"]


def test_under_another_head_the_triplet_loss_has_class_means_too() -> None:
    linear = trained("lora_drs", {"method.head": "linear"}, 1)
    assert linear._method.state_dict()["means"]["means"].shape[0] == 3
    bare = trained("lora_drs", {"method.head": "linear", "method.triplet": 0.0}, 1)
    assert bare._method.state_dict()["means"] == {}
    # The loss of features changes what the branches learn.
    assert not same(bare._model.changes(False), linear._model.changes(False))


def test_a_space_smaller_than_the_rank_is_raised_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        first, second, _ = (
            result.metrics
            for result in results_of("lora_drs", {"method.rank": 12, "method.share": 0.5}, 3)
        )
    assert (first["subspace/dim_free"], first["subspace/exhausted_layers"]) == (16, 0)
    assert second["subspace/dim_free"] < 12 and second["subspace/exhausted_layers"] == 2
    words = [record.getMessage() for record in caplog.records]
    assert sum("fewer than method.rank 12 directions" in text for text in words) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optim.micro_batch": 4}, r"optim\.micro_batch must be null with method\.triplet 0\.05"),
        (
            {"backbone.name": "test_convnext", "method.up_side": "inputs"},
            r"method\.up_side must be free unless slices of fused qkv alone are adapted",
        ),
        (
            {"backbone.layers": ["*.attn.proj"], "preset": "released"},
            r"method\.up_side must be free .* but it is inputs with blocks\.0\.attn\.proj",
        ),
        ({"method.share": 0.0}, r"method\.share must be in \(0, 1\], but got 0\.0"),
        ({"method.margin": -1.0}, r"method\.margin must be a finite number of at least 0"),
        ({"method.rank": 17}, r"method\.rank must be in \[1, 16\], but got 17"),
    ],
)
def test_what_cannot_be_is_refused_by_name(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny("lora_drs", changes)
