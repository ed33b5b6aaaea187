"""CoSO: the memory of gradients, the sketch, Adam in the space of a gradient; numbers and use."""

import logging
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from tests.trainables.draws import normal
from tests.trainables.trials import results_of, run, tiny, trained, weights
from trainables.method import Backward
from trainables.methods.coso.sketch import FrequentDirections, shrunk
from trainables.methods.coso.space import GradientSpace
from trainables.trainer import SequentialTrainer

Matrix = NDArray[np.float64]
EYE = torch.eye(3, dtype=torch.float64)


def space(dim: int = 6, **changes: Any) -> GradientSpace:
    values: dict[str, Any] = {
        "rank": 2, "size": 3, "decay": 1.0, "every": 1, "rotated": False, "orthonormal": True,
        "on_exhaustion": "clip", **changes,
    }  # fmt: skip
    return GradientSpace(dim, **values)


def holding(columns: Tensor, **changes: Any) -> GradientSpace:
    """A space whose memory holds `columns` (dim, k), at the start of a task."""
    full = space(columns.shape[0], **changes)
    full.load_state_dict({"memory": columns, "relaxed": False})
    full.start()
    return full


def sketch(size: int, decay: float, *all_values: list[float]) -> FrequentDirections:
    found = FrequentDirections(size, decay)
    for values in all_values:
        found.add(EYE, torch.tensor(values, dtype=torch.float64))
    return found


def test_a_gradient_without_what_old_tasks_hold() -> None:
    gradient = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    inside = holding(torch.tensor([[1.0], [0.0]])).project(gradient)
    assert inside.tolist() == [[0, 0], [3, 4]]


def test_frequent_directions_by_hand() -> None:
    """√(25 − 1), √(9 − 1); shares 24/32 and 1; then the same again, whole and by half."""
    once = sketch(2, 1.0, [5, 3, 1])
    assert once.values is not None
    assert once.values.tolist() == pytest.approx([4.898979, 2.828427], abs=1e-6)
    assert once.leading(0.98, reach=False).shape == (3, 1)
    assert once.leading(0.98, reach=True).shape == (3, 2)
    for decay, expected in ((1.0, [6.928203, 4.0]), (0.5, [5.477226, 3.162278])):
        twice = sketch(2, decay, [5, 3, 1], [5, 3, 1])
        assert twice.values is not None
        assert twice.values.tolist() == pytest.approx(expected, abs=1e-6)


def test_a_first_direction_that_holds_the_share_is_taken_or_as_released_not() -> None:
    alone = sketch(2, 1.0, [10, 1, 0])
    assert alone.leading(0.98, reach=False).shape == (3, 0)
    torch.testing.assert_close(alone.leading(0.98, reach=True), EYE[:, :1])
    # Directions without weight, of a gradient of zeros too, are none.
    assert sketch(3, 1.0, [2, 0, 0]).leading(1.0, reach=True).shape == (3, 1)
    assert sketch(2, 1.0, [0, 0, 0]).leading(0.98, reach=True).shape == (3, 0)


def test_a_sketch_never_claims_more_than_there_was() -> None:
    """Frequent Directions' own bound: 0 ≤ xᵀ(Σ G Gᵀ − S Sᵀ)x ≤ ‖G‖² / size, of all that came."""
    total, found = torch.zeros(8, 8, dtype=torch.float64), FrequentDirections(4, 1.0)
    for seed in range(6):
        gradient = normal(8, 5, seed=seed) * 0.7 ** torch.arange(5)
        left, values, _ = torch.linalg.svd(gradient, full_matrices=False)
        found.add(left, values)
        total += gradient @ gradient.T
    assert found.directions is not None and found.values is not None
    columns = found.directions * found.values
    gap = torch.linalg.eigvalsh(total - columns @ columns.T)
    assert gap.min() > -1e-9 and 0 < gap.max() < float(total.trace()) / 2
    assert shrunk(torch.tensor([2.0]), 4).tolist() == [2.0]


def reference(
    gradients: list[Matrix], old: Matrix, rank: int, every: int, rotated: bool
) -> list[Matrix]:
    """Changes of the weight at a rate of 1, by NumPy alone."""
    mean = square = onto = np.zeros(0)
    changes = []
    for step, gradient in enumerate(gradients):
        inside = gradient - old @ old.T @ gradient
        if step % every == 0:
            fresh = np.linalg.svd(inside)[0][:, :rank]
            if step and rotated:
                turn = fresh.T @ onto
                mean, square = turn @ mean, turn**2 @ square
            onto = fresh
        small = onto.T @ inside
        mean = 0.1 * small if not step else 0.9 * mean + 0.1 * small
        square = 0.001 * small**2 if not step else 0.999 * square + 0.001 * small**2
        size = np.sqrt(1 - 0.999 ** (step + 1)) / (1 - 0.9 ** (step + 1))
        changes.append(-size * onto @ (mean / (np.sqrt(square) + 1e-6)))
    return changes


@pytest.mark.parametrize(("every", "rotated"), [(4, False), (1, True), (3, True)])
def test_adam_in_the_space_of_a_gradient(every: int, rotated: bool) -> None:
    """Signs of singular vectors are arbitrary, and only moments that are rotated turn with them."""
    columns, _ = torch.linalg.qr(normal(6, 2, seed=7))
    gradients = [normal(6, 5, seed=seed) for seed in range(4)]
    moving = holding(columns, every=every, rotated=rotated)
    expected = reference([g.numpy() for g in gradients], columns.numpy(), 2, every, rotated)
    for gradient, change in zip(gradients, expected, strict=True):
        found = moving.step(gradient)
        np.testing.assert_allclose(found.numpy(), change, atol=1e-9)
        assert float((columns.T @ found).abs().max()) < 1e-9


def test_gradient_descent_adds_up_what_is_projected() -> None:
    columns, _ = torch.linalg.qr(normal(6, 2, seed=7))
    free = np.eye(6) - columns.numpy() @ columns.numpy().T
    moving, velocity = holding(columns), np.zeros((6, 5))
    for seed in range(3):
        inside = free @ normal(6, 5, seed=seed).numpy()
        onto = np.linalg.svd(inside)[0][:, :2]
        velocity = 0.9 * velocity + onto @ onto.T @ inside
        found = moving.step(normal(6, 5, seed=seed), momentum=0.9)
        np.testing.assert_allclose(found.numpy(), -velocity, atol=1e-12)


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_weight_decay_moves_nothing_along_the_memory(optimizer: str) -> None:
    changes = {"optim.optimizer": optimizer, "optim.lr": 1e-3, "optim.weight_decay": 50.0}
    trainer = trained("coso", changes, tasks=1)
    layer = trainer._model.layers["layer_00"]
    memory = trainer._method._spaces["layer_00"].memory  # type: ignore[attr-defined]
    before = layer.weight.detach().clone()
    trainer.train_task()
    moved = layer.weight.detach() - before
    assert float(moved.norm()) > 1e-5
    assert float((memory.T @ moved).norm()) < 1e-3 * float(moved.norm())
    if optimizer == "adamw":
        # A share of what is free of the weight is taken off; Adam's steps are small beside it.
        free = before - memory @ (memory.T @ before)
        cosine = torch.nn.functional.cosine_similarity(moved.flatten(), -free.flatten(), dim=0)
        assert float(cosine) > 0.9


def test_a_full_memory_leaves_rounding_which_is_clipped_or_as_released_scaled_up() -> None:
    columns, _ = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(1)))
    gradient = torch.randn(6, 5, generator=torch.Generator().manual_seed(2))
    clipped, released = holding(columns), holding(columns, on_exhaustion="released")
    assert clipped.exhausted and clipped.free_dim == 0
    assert not clipped.step(gradient).any()
    # A normal gradient makes steps of this length.
    whole = float(space().step(gradient).norm())
    assert float(released.step(1e6 * gradient).norm()) > 0.1 * whole
    share = clipped.gradient_free()
    assert share is not None and share < 1e-6
    clipped.absorb(0.98, reach=True)
    assert clipped.memory.shape == (6, 6)


def test_a_space_of_fewer_directions_than_the_rank_takes_those() -> None:
    nearly = holding(EYE[:, :2].float(), rank=2)
    change = nearly.step(torch.randn(3, 4, generator=torch.Generator().manual_seed(0)))
    assert int(torch.linalg.matrix_rank(change)) == 1 and not change[:2].any()
    resting = holding(EYE[:, :2].float(), rank=2, on_exhaustion="freeze")
    assert resting.rests and not holding(EYE[:, :1], on_exhaustion="freeze").rests


@pytest.mark.parametrize(("policy", "columns"), [("clip", 6), ("relax", 4), ("released", 7)])
def test_how_much_a_memory_takes_in(policy: Any, columns: int) -> None:
    """Of six dimensions four are held, two free, and three directions come: one of them is old."""
    held = holding(torch.eye(6)[:, :4], on_exhaustion=policy, orthonormal=policy != "released")
    held._sketch.add(torch.eye(6).flip(1), torch.tensor([3.0, 2.0, 1.0, 0.0, 0.0, 0.0]))
    held.absorb(1.0, reach=True)
    assert held.memory.shape == (6, columns)
    assert held.exhausted and held.relaxed == (policy == "relax")
    if policy == "clip":
        torch.testing.assert_close(held.memory.T @ held.memory, torch.eye(6))


def test_a_gradient_that_is_not_finite_is_a_setting_that_failed() -> None:
    with pytest.raises(FloatingPointError, match=r"gradient must be finite.*a smaller optim\.lr"):
        space().step(torch.full((6, 5), float("nan")))
    assert space().gradient_free() is None
    still = space()
    assert not still.step(torch.zeros(6, 5)).any() and still.gradient_free() is None


def test_a_task_changes_nothing_along_the_memory_and_no_old_head() -> None:
    trainer = trained("coso", {"optim.lr": 1e-3}, tasks=2)
    method: Any = trainer._method
    layers = trainer._model.layers
    held = {name: one.memory for name, one in method._spaces.items()}
    before = {name: layer.weight.detach().clone() for name, layer in layers.items()}
    heads = [head.clone() for head in method.state_dict()["heads"]["weights"]]
    trainer.train_task()
    for name, layer in layers.items():
        moved = layer.weight.detach() - before[name]
        assert held[name].shape[1] and float(moved.norm()) > 1e-4
        assert float((held[name].T @ moved).norm()) < 1e-3 * float(moved.norm())
    kept = method.state_dict()["heads"]["weights"]
    assert all(torch.equal(head, now) for head, now in zip(heads, kept, strict=False))


def test_slices_that_are_not_adapted_stay() -> None:
    trainer = SequentialTrainer(
        tiny("coso", {"backbone.layers": ["*.attn.qkv"], "backbone.adapt": ["q", "v"]})
    )
    layer = next(iter(trainer._model.layers.values()))
    before = layer.weight.detach().clone()
    run(trainer, 1)
    q, k, v = (layer.weight - before).chunk(3)
    assert q.any() and v.any() and not k.any()


def test_logits_are_cooled_in_training_alone() -> None:
    trainer = SequentialTrainer(tiny("coso", {"method.temperature": 2.0}))
    logits, labels = torch.tensor([[2.0, 0.0, 1.0]]), torch.tensor([2])
    expected = functional.cross_entropy(logits / 2, labels)
    torch.testing.assert_close(trainer._method.loss(logits, labels, range(3)), expected)
    cosine = SequentialTrainer(tiny("coso", {"method.temperature": 2.0, "method.head": "cosine"}))
    expected = functional.cross_entropy(logits, labels)
    torch.testing.assert_close(cosine._method.loss(logits, labels, range(3)), expected)


def test_a_memory_that_runs_out_is_raised_once(caplog: pytest.LogCaptureFixture) -> None:
    changes = {
        "data.classes": None, "data.tasks": 20, "optim.epochs": 1, "optim.batch_size": 4,
        "method.rank": 12, "method.epsilon": 1.0,
    }  # fmt: skip
    with caplog.at_level(logging.WARNING):
        first, *_, last = (result.metrics for result in results_of("coso", changes, tasks=3))
    assert last["subspace/exhausted_layers"] == 2 and last["subspace/dim_free"] == 0
    assert first["subspace/gradient_free"] == pytest.approx(1)
    assert last["subspace/gradient_free"] < 1e-4
    words = [record.getMessage() for record in caplog.records]
    assert sum("fewer than method.rank 12 free directions" in text for text in words) == 1
    assert sum("of the gradient's norm was left" in text for text in words) == 1


def test_steps_are_those_of_the_batch_s_rate() -> None:
    """At a rate of almost 0 weights stay, whatever Adam makes of gradients."""
    trainer = SequentialTrainer(tiny("coso", {"optim.lr": 1e-12}))
    before, rates = weights(trainer), []
    method: Any = trainer._method
    step = method.step

    def watched(optimizer: torch.optim.Optimizer, backward: Backward) -> Tensor:
        rates.append([group["lr"] for group in optimizer.param_groups])
        loss: Tensor = step(optimizer, backward)
        return loss

    method.step = watched
    trainer.train_task()
    assert len(rates) == 4 and rates[0] == [1e-12, 5e-3] and rates[3][0] < rates[0][0]
    after = weights(trainer)
    assert all(float((after[name] - old).abs().max()) < 1e-9 for name, old in before.items())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method.rank": 17}, r"method\.rank must be in \[1, 16\], but got 17"),
        ({"method.every": 0}, r"method\.every must be at least 1, but got 0"),
        ({"method.decay": 0.0}, r"method\.decay must be in \(0, 1\], but got 0\.0"),
        ({"method.temperature": 0.0}, r"method\.temperature must be a finite number above 0"),
    ],
)
def test_what_cannot_be_is_refused_by_name(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny("coso", changes)
