"""Which prompts reach which image at test: those of its own task, in batches of any size."""

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.trainables.methods.test_prompting import FEW, METHODS, images_of, spread
from tests.trainables.trials import trained
from trainables import evaluation, frozen
from trainables.evaluation import Evaluator
from trainables.trainer import SequentialTrainer

TOLD = torch.tensor([2, 0, 1, 2, 0, 1, 1, 0])


def numbered(trainer: SequentialTrainer) -> tuple[int, ...]:
    """Makes the keys of task t 2 t and its values 2 t + 1; the blocks that they are in."""
    own: Any = trainer._method
    for task, prompt in enumerate(own.own if hasattr(own, "own") else own.prompts):
        prompt.data[:, 0], prompt.data[:, 1] = 2.0 * task, 2.0 * task + 1
    blocks: tuple[int, ...] = own._e_blocks if hasattr(own, "own") else own._blocks
    return blocks


@torch.no_grad()
def given_to(trainer: SequentialTrainer, images: Tensor) -> tuple[dict[int, Any], list[int]]:
    """The prefixes that a network is given for images at test, and the tasks that were told."""
    model = trainer._model
    found: dict[int, Any] = {}
    real = model.prompted

    def prompted(*arguments: Any) -> Any:
        found.update(arguments[1])
        return real(*arguments)

    model.prompted = prompted  # type: ignore[method-assign, assignment]
    own: Any = trainer._method
    chosen = own.forward(model, images).chosen
    return found, chosen.int().argmax(1).tolist()


@pytest.mark.parametrize("count", [1, 2, 3, 8])
@pytest.mark.parametrize("method", ["dual_prompt", "hide_prompt"])
@pytest.mark.parametrize("leak", [False, True])
def test_keys_and_values_of_the_task_that_was_told_reach_the_image(
    method: str, count: int, leak: bool
) -> None:
    trainer = trained(method, {**FEW, "method.reshape_leak": leak}, 3)
    images = images_of(trainer, 6)[:count]
    if method == "hide_prompt":
        own: Any = trainer._method
        own.identity.told = lambda queries: TOLD[: len(queries)]
    else:
        spread(trainer, images)
    blocks = numbered(trainer)
    prefixes, told = given_to(trainer, images)
    assert blocks and len(set(told)) == min(count, 3)
    right = [
        bool((rows[image] == 2 * task + kind).all())
        for block in blocks
        for kind, rows in enumerate(prefixes[block])
        for image, task in enumerate(told)
    ]
    # As released, an image alone is right, and no batch of images of different tasks is.
    assert all(right) == (not leak or count == 1)


@pytest.mark.parametrize("method", METHODS)
def test_accuracies_are_the_same_in_batches_of_1_and_of_128(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By new evaluators, so that the queries are of such batches too."""
    trainer = trained(method, FEW, 3)
    spread(trainer, images_of(trainer, 3))
    found = []
    for size in (1, 128):
        monkeypatch.setattr(evaluation, "FORWARD_BATCH", size)
        monkeypatch.setattr(frozen, "FORWARD_BATCH", size)
        evaluator = Evaluator(trainer._model, trainer._method, trainer._stream)
        found.append(evaluator.evaluate(3))
    assert found[0] == found[1]


def test_a_batch_votes_for_one_task() -> None:
    """Two images are nearest to each of two keys, and one to a third: of equals the first."""
    for vote, expected in (("image", [2, 1, 1, 2, 0]), ("batch", [1] * 5)):
        trainer = trained("dual_prompt", {**FEW, "method.vote": vote}, 3)
        own: Any = trainer._method
        queries = torch.eye(3, 16)[[2, 1, 1, 2, 0]]
        for key, row in zip(own.keys, torch.eye(3, 16), strict=True):
            key.data.copy_(row)
        images = images_of(trainer, 6)[:5]
        with torch.no_grad():
            chosen = own.forward(trainer._model, images, None, queries).chosen
        assert chosen.int().argmax(1).tolist() == expected
