"""What the four methods with prompts promise together."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from torch import Tensor

from tests.trainables.trials import comparable, moved, results_of, run, tiny, trained, weights
from trainables.backbones.adapted import AdaptedBackbone
from trainables.backbones.info import PromptPlaces
from trainables.config import catalog
from trainables.data.batches import to_unit
from trainables.method import MethodContext, Prompting, Scored, create_method
from trainables.trainer import SequentialTrainer

METHODS = [
    name for name in catalog.methods() if hasattr(catalog.declaration(name).config, "check_prompts")
]
# A transformer without a class token, whose query is the mean of the patches.
MEAN = {"backbone.name": "compact_vit", "backbone.pretrained": True, "data.image_size": 32}
FEW = {"optim.epochs": 1, "data.train_per_class": 4, "data.tasks": 6, "optim.prompt_lr": 0.1}


def images_of(trainer: SequentialTrainer, tasks: int) -> Tensor:
    """The held-out images of the first tasks."""
    return torch.cat([to_unit(task.held_out.images) for task in trainer._stream.tasks[:tasks]])


@torch.no_grad()
def scored(trainer: SequentialTrainer, images: Tensor, queries: Tensor | None = None) -> Scored:
    method: Any = trainer._method
    found: Scored = method.forward(trainer._model, images, None, queries)
    return found


def spread(trainer: SequentialTrainer, images: Tensor) -> None:
    """Lets images choose differently, where they choose by keys: those are queries of some."""
    keys = getattr(trainer._method, "keys", [])
    for key, query in zip(keys, trainer._model.query(images), strict=False):
        key.data.copy_(query)


def test_there_are_four() -> None:
    assert METHODS == ["coda_prompt", "dual_prompt", "hide_prompt", "l2p"]
    for method in METHODS:
        assert isinstance(SequentialTrainer(tiny(method))._method, Prompting)


def ways(trainer: SequentialTrainer, images: Tensor) -> Iterator[tuple[Scored, list[int]]]:
    """Scores of images in other company, and which images they are of."""
    count = len(images)
    backwards, odd = list(range(count))[::-1], [2, *range(count), 0]
    for places in (backwards, odd, *([place] for place in range(3))):
        yield scored(trainer, images[places]), places
    yield scored(trainer, images, trainer._model.query(images)), list(range(count))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("network", [{}, MEAN], ids=["class token", "mean"])
def test_an_image_is_scored_by_itself(method: str, network: dict[str, Any]) -> None:
    """Alone, in another order, among others, with a known query: the same choice and logits."""
    trainer = trained(method, {**FEW, **network}, 2)
    images = images_of(trainer, 6)
    spread(trainer, images)
    whole = scored(trainer, images)
    assert whole.chosen is not None
    if method in ("dual_prompt", "l2p"):
        assert not bool((whole.chosen == whole.chosen[0]).all())
    for found, places in ways(trainer, images):
        assert found.chosen is not None
        assert torch.equal(found.chosen, whole.chosen[places])
        torch.testing.assert_close(found.logits, whole.logits[places], atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("method", "leak"),
    [
        ("l2p", {"method.vote": "batch"}),
        ("dual_prompt", {"method.vote": "batch"}),
        ("dual_prompt", {"method.reshape_leak": True}),
        ("hide_prompt", {"method.reshape_leak": True}),
    ],
)
def test_where_released_code_lets_images_depend_on_others_they_do(
    method: str, leak: dict[str, Any]
) -> None:
    trainer = trained(method, {**FEW, **leak, "method.init": "symmetric"}, 3)
    images = images_of(trainer, 3)
    spread(trainer, images)
    whole = scored(trainer, images).logits
    alone = torch.cat([scored(trainer, image[None]).logits for image in images])
    assert float((whole - alone).abs().max()) > 1e-3
    if "method.vote" in leak:
        # A vote does not depend on the order.
        order = torch.arange(len(images)).flip(0)
        chosen, other = scored(trainer, images).chosen, scored(trainer, images[order]).chosen
        assert chosen is not None and other is not None
        assert bool((chosen == chosen[0]).all()) and torch.equal(chosen, other)
    assert trainer.train_task().metrics["prompt/scores_by_batch"] == 1


@pytest.mark.parametrize("method", METHODS)
def test_the_query_is_the_pretrained_network_s_after_training(method: str) -> None:
    trainer = SequentialTrainer(tiny(method, {"data.tasks": 2}))
    images, before = images_of(trainer, 2), weights(trainer)
    queries = trainer._model.query(images)
    run(trainer)
    assert not moved(trainer, before)
    assert torch.equal(trainer._model.query(images), queries)
    assert not queries.requires_grad


@pytest.mark.parametrize("method", METHODS)
def test_queries_of_images_that_are_not_augmented_are_computed_once_a_machine(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HiDe-Prompt's stages too, which look at all training images three times in a task."""
    monkeypatch.setenv("LRCS_CACHE_ROOT", str(tmp_path))
    counted = Mock(side_effect=AdaptedBackbone.query)
    monkeypatch.setattr(AdaptedBackbone, "query", lambda model, images: counted(model, images))
    config = tiny(method, {"data.augmentation": "none", "optim.epochs": 3})
    first = run(SequentialTrainer(config))
    asked = sum(len(call.args[1]) for call in counted.call_args_list)
    held_out, train = 12 * 2, 12 * 6
    assert asked == held_out + train
    counted.reset_mock()
    again = SequentialTrainer(config).train_task()
    assert comparable(again) == comparable(first[0])
    assert not counted.called


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("network", ["test_swin", "test_convnext"])
def test_networks_without_places_are_refused_by_name(method: str, network: str) -> None:
    message = rf"backbone.name must be a plain Vision Transformer .* {method}: .* {network} does"
    with pytest.raises(ValueError, match=message):
        tiny(method, {"backbone.name": network})


@pytest.mark.parametrize("method", METHODS)
def test_what_was_chosen_is_recorded(method: str) -> None:
    last = results_of(method, {"optim.epochs": 1})[-1].metrics
    by = "prompt" if method == "l2p" else "task"
    shares = [last[f"prompt/chosen/{by}_{number:02d}"] for number in range(1, 5)]
    assert last["prompt/used"] == sum(
        value > 0 for name, value in last.items() if name.startswith("prompt/chosen/")
    )
    assert 1 <= last["prompt/used_equally"] <= last["prompt/used"] + 1e-9
    if method == "l2p":
        assert "prompt/task_inferred" not in last
    else:
        assert sum(shares) == pytest.approx(1)
        assert 0 <= last["prompt/task_inferred"] <= 1
    assert 0 <= last["prompt/similarity"] <= last["prompt/largest_similarity"] <= 1 + 1e-6
    assert last["memory/branch_bytes"] >= last["memory/prompt_bytes"] > 0
    assert "prompt/scores_by_batch" not in last


@pytest.mark.parametrize("method", METHODS)
def test_one_task_needs_nothing_that_there_is_not(method: str) -> None:
    (only,) = results_of(method, {"data.tasks": 1, "optim.epochs": 1})
    assert only.metrics["val/task_prediction_accuracy"] == 1


@pytest.mark.parametrize(
    ("method", "changes", "names"),
    [
        ("l2p", {"method.vote": "batch"}, "method.vote batch"),
        ("l2p", {"method.pull_form": "crossed"}, "method.pull_form crossed"),
        ("dual_prompt", {"method.reshape_leak": True}, "method.reshape_leak true"),
        ("hide_prompt", {"method.reshape_leak": True}, "method.reshape_leak true"),
        ("hide_prompt", {}, "method.contrastive 0.1"),
    ],
)
def test_micro_batches_are_refused_where_the_loss_is_no_mean_over_images(
    method: str, changes: dict[str, Any], names: str
) -> None:
    with pytest.raises(ValueError, match=rf"optim.micro_batch must be null with {names}"):
        tiny(method, {**changes, "optim.micro_batch": 5})


# Numbers that learn beside the heads, in ViT-B/16 with ten tasks.
VIT_B: list[tuple[str, dict[str, Any], int]] = [
    ("l2p", {"length": 10, "top_k": 4}, 84_480),
    ("l2p", {"length": 5}, 46_080),
    ("dual_prompt", {"e_length": 20, "candidates": "pool"}, 944_640),
    ("dual_prompt", {"e_length": 5, "candidates": "pool"}, 253_440),
    ("coda_prompt", {}, 3_840_000),
    ("hide_prompt", {"length": 20}, 1_536_000 + 2_363_136),
]


@pytest.mark.parametrize(("method", "fields", "expected"), VIT_B)
def test_how_many_numbers_learn_in_a_vit_b(
    method: str, fields: dict[str, Any], expected: int
) -> None:
    model: Any = Mock(width=768, places=PromptPlaces(12, 768, class_position=True))
    context = MethodContext(model, 10, torch.device("cpu"), torch.Generator(), True, (2,) * 10)
    own: Any = create_method(catalog.declaration(method).config(**fields), context)
    for index in range(10 if method == "hide_prompt" else 0):
        own.begin_task(model, Mock(index=index, classes=range(2)), Mock())
    if method == "l2p":
        found = own.prompts.numel() + own.keys.numel()
    elif method == "dual_prompt":
        found = sum(tensor.numel() for tensor in (own.general, *own.own, *own.keys))
    elif method == "coda_prompt":
        found = sum(rows.numel() for rows in own.rows.values())
    else:
        found = sum(prompt.numel() for prompt in own.prompts) + own.identity.bytes // 4
    assert found == expected


@pytest.mark.parametrize("method", METHODS)
def test_classes_of_future_tasks_compete_where_asked(method: str) -> None:
    changes = {**FEW, "method.test_classes": "all", "method.head_init": "linear"}
    trainer = trained(method, changes, 2)
    logits = scored(trainer, images_of(trainer, 2)).logits
    assert logits.shape[1] == 12
    assert len(trainer._matrix[-1]) == 2
    seen = trained(method, {**changes, "method.test_classes": "seen"}, 2)
    assert scored(seen, images_of(seen, 2)).logits.shape[1] == 4


@pytest.mark.parametrize("method", METHODS)
def test_prompts_learn_at_their_own_rate(method: str) -> None:
    def rows(rate: float) -> Tensor:
        trainer: Any = trained(method, {"optim.prompt_lr": rate, "data.tasks": 2}, 1)
        state = trainer._method.state_dict()
        found = state["own" if "own" in state else "rows" if "rows" in state else "prompts"]
        found = found["prompts"] if isinstance(found, dict) else found
        return torch.as_tensor(found[0])

    slow, other, fast = rows(1e-12), rows(1e-11), rows(0.1)
    assert float((slow - other).abs().max()) < 1e-6
    assert float((slow - fast).abs().max()) > 0.01


@pytest.mark.parametrize("method", METHODS)
def test_clipping_bounds_the_gradient(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    norms = []
    step = torch.optim.SGD.step

    def watched(optimizer: torch.optim.SGD, *arguments: Any) -> Any:
        gradients = [
            parameter.grad.flatten()
            for group in optimizer.param_groups
            for parameter in group["params"]
            if parameter.grad is not None
        ]
        norms.append(float(torch.cat(gradients).norm()))
        return step(optimizer, *arguments)

    monkeypatch.setattr(torch.optim.SGD, "step", watched)
    changes = {"optim.optimizer": "sgd", "optim.clip_norm": 0.01, "data.tasks": 1}
    trained(method, {**changes, "optim.epochs": 1})
    assert norms and max(norms) <= 0.01 * (1 + 1e-4)


def test_a_released_reshape_differs_by_nothing_else() -> None:
    """With batches of one image there is nothing to mix up."""
    changes = {"optim.batch_size": 1, "optim.epochs": 1, "data.tasks": 2}
    states = [
        trained("dual_prompt", {**changes, "method.reshape_leak": leak}, 1)._method.state_dict()
        for leak in (False, True)
    ]
    for one, other in itertools.pairwise(states):
        assert torch.equal(one["general"], other["general"])
        assert torch.equal(one["own"][0], other["own"][0])
