import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.trainables.trials import (
    comparable,
    moved,
    results_of,
    run,
    same,
    tiny,
    trained,
    weights,
)
from trainables import evaluation, fitting
from trainables import trainer as trainer_module
from trainables.config import CAME_LATER, catalog
from trainables.trainer import SequentialTrainer

RESUMED: list[tuple[str, dict[str, Any], int]] = [
    *((method, {}, after) for method in catalog.methods() for after in (1, 3)),
    # Before a branch that goes on through all tasks, or an average of branches, is there.
    *((method, {}, 0) for method in ("sequential_lora", "averaged_lora", "joint")),
    ("joint", {"method.trains": "backbone"}, 1),
    ("inflora_ca", {"method.head_norm": True}, 2),
    ("sd_lora", {"preset": "released"}, 2),
    ("sd_lora", {"method.alpha_scope": "global"}, 2),
    ("sd_lora", {"method.alpha_scope": "layer", "method.rank": 2, "method.tau": 0.99}, 2),
    ("sd_lora", {"method.rank": 2, "method.tau": 0.99, "optim.optimizer": "sgd"}, 2),
    ("sd_lora", {"optim.precision": "bfloat16"}, 1),
    ("inflora", {"data.rendition": "street", "data.rendition_strength": 0.5}, 1),
    # All heads, untrained keys or components are there from the start.
    *((method, {"preset": "released"}, 2) for method in ("dual_prompt", "hide_prompt", "l2p")),
    ("coda_prompt", {"preset": "paper"}, 2),
    # Queries of training images are known as well.
    ("coda_prompt", {"data.augmentation": "none", "optim.precision": "bfloat16"}, 1),
]


@pytest.mark.slow
@pytest.mark.parametrize(("method", "changes", "after"), RESUMED)
def test_resuming_after_any_task_equals_the_uninterrupted_run(
    method: str, changes: dict[str, Any], after: int, tmp_path: Path
) -> None:
    whole = results_of(method, changes)
    first = trained(method, changes, after)
    first.save(tmp_path)
    resumed = SequentialTrainer(tiny(method, changes))
    resumed.restore(tmp_path)
    assert resumed.tasks_seen == after
    assert same(weights(first), weights(resumed))
    for result, other in zip(whole[after:], run(resumed), strict=True):
        assert comparable(result) == comparable(other)
        assert result.accuracy_row == other.accuracy_row
    run(first)
    assert same(first._state(), resumed._state())
    if "method.tau" in changes:
        assert whole[-1].metrics["alpha/pairs_kept"] < 4


@pytest.mark.slow
@pytest.mark.parametrize("method", catalog.methods())
@pytest.mark.parametrize("tasks", [1, 5, 12])
def test_any_number_of_tasks_up_to_the_classes(method: str, tasks: int) -> None:
    changes = {"data.tasks": tasks, "data.train_per_class": 4, "optim.epochs": 1}
    assert len(results_of(method, changes)) == tasks


def test_a_checkpoint_of_another_trial_or_version_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    SequentialTrainer(tiny("sd_lora")).save(tmp_path)
    for key, value, kept in (
        ("method.rank", 3, 10),
        ("optim.precision", "bfloat16", "float32"),
        ("evaluation.during", 2, None),
    ):
        other = SequentialTrainer(tiny("sd_lora", {key: value}))
        with pytest.raises(ValueError, match=rf"{key} is {kept!r} there and {value!r} here"):
            other.restore(tmp_path)
    # One from before a key is taken where the key says what was done then.
    path = tmp_path / trainer_module.CHECKPOINT_NAME
    state = torch.load(path, weights_only=True)
    for key in CAME_LATER:
        # Some are of other methods.
        state["params"].pop(key, None)
    del state["lows"]
    torch.save(state, path)
    SequentialTrainer(tiny("sd_lora")).restore(tmp_path)
    other = SequentialTrainer(tiny("sd_lora", {"method.head_init": "linear"}))
    with pytest.raises(ValueError, match="head_init is 'small_normal' there and 'linear' here"):
        other.restore(tmp_path)
    monkeypatch.setattr(trainer_module, "CHECKPOINT_VERSION", 4)
    with pytest.raises(ValueError, match=r"must be of version 4, but it is of 3\."):
        SequentialTrainer(tiny("sd_lora")).restore(tmp_path)


def test_scores_have_products_as_in_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """The heads' too: with TF32 on a CUDA device, in training and in evaluation."""
    inside: list[bool] = []
    places = []

    @contextmanager
    def watched(_: torch.device) -> Iterator[None]:
        inside.append(True)
        yield
        inside.pop()

    for module in (fitting, evaluation):
        monkeypatch.setattr(module, "network_products", watched)
    trainer = SequentialTrainer(tiny("inflora"))
    method: Any = trainer._method

    def watch(scores: Any, features: torch.Tensor) -> Any:
        places.append((torch.is_grad_enabled(), bool(inside)))
        return scores(features)

    for name in ("logits", "trained_logits"):
        monkeypatch.setattr(method, name, partial(watch, getattr(method, name)))
    trainer.train_task()
    trainer.time_evaluation(4)
    assert set(places) == {(True, True), (False, True)}


def test_a_task_beyond_the_last_is_refused() -> None:
    with pytest.raises(RuntimeError, match="none left"):
        trained("sequential", {"data.tasks": 1}).train_task()


@pytest.mark.parametrize(
    ("method", "pattern"),
    [
        ("sequential", ".*"),
        ("sd_lora", ""),
        ("sequential_lora", ""),
        ("linear_heads", ""),
        ("inflora", r".*qkv\.base\.weight"),
    ],
)
def test_only_sequential_and_merged_branches_move_weights(method: str, pattern: str) -> None:
    trainer = SequentialTrainer(tiny(method, {"data.tasks": 2}))
    before = weights(trainer)
    trainer.train_task()
    assert moved(trainer, before) == {name for name in before if re.fullmatch(pattern, name)}


def test_head_learns_at_its_own_rate() -> None:
    """With a vanishing rate the head stays where its seed put it."""
    trainers = (trained("sequential", {"optim.head_lr": rate}, 1) for rate in (1e-12, 0.1))
    slow, fast = (each._method.state_dict()["heads"]["weights"][0] for each in trainers)
    assert float(slow.std()) == pytest.approx(0.02, rel=0.5)
    assert float((fast - slow).abs().mean()) > 0.05


def test_alpha_learns_at_its_own_rate() -> None:
    """With a vanishing rate the first magnitude stays at alpha_init times the pair's norm."""
    change = []
    for rate in (1e-12, 0.1):
        results = results_of("sd_lora", {"optim.alpha_lr": rate, "data.tasks": 2})
        first, second = (result.metrics["alpha/task_01"] for result in results)
        change.append(abs(second - first))
    assert change[0] < 1e-6
    assert change[1] > 1e-3


@pytest.mark.slow
def test_any_timm_vision_transformer_takes_the_images_of_the_data() -> None:
    network = {"backbone.name": "vit_tiny_patch16_224", "data.image_size": 32, "data.classes": 4}
    trainer = SequentialTrainer(tiny("inflora", {**network, "data.tasks": 2, "optim.epochs": 1}))
    assert len(trainer._model.layers) == 12
    assert trainer.train_task().metrics["subspace/dim_free"] < 192
