"""L2P: who moves, what is pulled, what the heads read."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tests.trainables.trials import run, tiny, trained
from trainables.data.batches import to_unit
from trainables.trainer import SequentialTrainer


def begun(changes: dict[str, Any] | None = None) -> tuple[SequentialTrainer, Any, Tensor, Tensor]:
    """A trial in its first task: trainer, method, images and labels."""
    trainer = SequentialTrainer(tiny("l2p", changes))
    method: Any = trainer._method
    task = trainer._stream[0]
    method.begin_task(trainer._model, task, trainer._batches(task.train))
    return trainer, method, to_unit(task.train.images), task.train.labels


def test_prompts_that_no_image_takes_do_not_move() -> None:
    """Through all tasks: carried over, the optimizer's momentum would move them."""
    trainer = SequentialTrainer(tiny("l2p", {"method.top_k": 2, "optim.prompt_lr": 0.01}))
    method: Any = trainer._method
    taken: set[int] = set()
    real = method.forward

    def watched(*arguments: Any) -> Any:
        scored = real(*arguments)
        taken.update(scored.chosen.any(0).nonzero().flatten().tolist())
        return scored

    method.forward = watched
    while not trainer.done:
        before = [method.prompts.detach().clone(), method.keys.detach().clone()]
        taken.clear()
        trainer.train_task()
        others = [number for number in range(10) if number not in taken]
        assert others and taken
        for was, now in zip(before, (method.prompts, method.keys), strict=True):
            assert torch.equal(was[others], now[others])
            assert not torch.equal(was[sorted(taken)], now[sorted(taken)])


def test_prompts_that_no_image_takes_have_no_gradient() -> None:
    trainer, method, images, labels = begun({"method.top_k": 3})
    method.prompts.requires_grad_(True)
    method.keys.requires_grad_(True)
    scored = method.forward(trainer._model, images, trainer._stream[0])
    (method.loss(scored.logits, labels, range(3)) + scored.penalty).backward()
    taken = scored.chosen.any(0)
    for parameter in (method.prompts, method.keys):
        lengths = parameter.grad.flatten(1).norm(dim=1)
        assert bool((lengths[taken] > 0).all()) and not bool(lengths[~taken].any())
    assert bool((~taken).any())


def test_without_a_pull_the_loss_is_cross_entropy_over_the_task_s_classes() -> None:
    trainer, method, images, labels = begun({"method.pull": 0.0})
    with torch.no_grad():
        scored = method.forward(trainer._model, images, trainer._stream[0])
    assert float(scored.penalty) == 0
    loss = method.loss(scored.logits, labels, range(3)) + scored.penalty
    assert float(loss) == float(functional.cross_entropy(scored.logits[:, :3], labels))


def test_the_masked_loss_by_hand() -> None:
    _, method, _, _ = begun()
    logits = torch.tensor([[2.0, 1.0, 0.0, -1.0, 3.0, 5.0]])
    own = method.loss(logits, torch.tensor([3]), range(2, 4))
    seen = method.loss(logits, torch.tensor([3]), range(4))
    assert (float(own), float(seen)) == pytest.approx((1.313262, 3.440190), abs=1e-6)


def test_the_masked_loss_of_the_first_and_of_middle_classes() -> None:
    _, method, _, _ = begun()
    logits = torch.tensor([[0.0, 3.0, -2.0, 0.5]])
    first = method.loss(logits, torch.tensor([1]), range(2))
    middle = method.loss(logits, torch.tensor([2]), range(1, 4))
    expected = (math.log1p(math.exp(-3)), 5 + math.log1p(math.exp(-5) + math.exp(-2.5)))
    assert (float(first), float(middle)) == pytest.approx(expected, abs=1e-6)


def test_the_heads_read_the_prompts_outputs_and_nothing_else() -> None:
    trainer, method, images, _ = begun()
    model = trainer._model
    real = model.prompted
    found: dict[str, Tensor] = {}

    def prompted(*arguments: Any) -> tuple[Tensor, Tensor | None]:
        features, outputs = real(*arguments)
        assert outputs is not None
        found["outputs"] = outputs
        return torch.full_like(features, float("nan")), outputs

    model.prompted = prompted  # type: ignore[method-assign, assignment]
    scored = method.forward(model, images)
    assert found["outputs"].shape == (len(images), 5 * 5, 16)
    torch.testing.assert_close(scored.features, found["outputs"].mean(1))
    torch.testing.assert_close(scored.logits, method.logits(scored.features))


def test_the_position_of_the_class_token_is_added_to_prompts() -> None:
    trainer, method, images, _ = begun({"method.position": "class_token"})
    network: Any = trainer._model.network
    with torch.no_grad():
        network.pos_embed.add_(1.0)
        own = method.forward(trainer._model, images).features
        method.prompts.data += network.pos_embed[0, 0]
        _, plain, _, _ = begun()
        plain.prompts.data.copy_(method.prompts)
        plain.keys.data.copy_(method.keys)
        by_hand = plain.forward(trainer._model, images).features
    torch.testing.assert_close(own, by_hand)


def test_the_crossed_form_grows_with_the_batch_and_the_own_one_does_not() -> None:
    for form, factor in (("own", 1.0), ("crossed", 4.0)):
        trainer, method, images, _ = begun({"method.pull_form": form})
        with torch.no_grad():
            once, twice = (
                float(method.forward(trainer._model, some).penalty)
                for some in (images, torch.cat([images, images]))
            )
        assert twice == pytest.approx(factor * once, rel=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"method.top_k": 11},
            r"method.top_k must be in \[1, method.pool\] = \[1, 10\], but got 11",
        ),
        ({"method.pool": 0}, "method.pool must be at least 1, but got 0"),
        ({"method.pull": -1.0}, "method.pull must be a finite number of at least 0"),
    ],
)
def test_values_out_of_range_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny("l2p", changes)


def test_the_pool_is_of_any_number_of_tasks() -> None:
    bytes_held = set()
    for tasks in (1, 12):
        changes = {"data.tasks": tasks, "data.train_per_class": 4, "optim.epochs": 1}
        trainer = trained("l2p", changes, 0)
        bytes_held |= {result.metrics["memory/prompt_bytes"] for result in run(trainer)}
    assert bytes_held == {4.0 * (10 * 5 * 16 + 10 * 16)}
