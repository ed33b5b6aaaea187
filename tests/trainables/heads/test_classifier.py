"""Heads as a choice: what each does within a trial, and what is refused."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from tests.trainables.trials import comparable, results_of, run, same, tiny, trained
from trainables.data.batches import to_unit
from trainables.trainer import SequentialTrainer

HEADS: dict[str, dict[str, Any]] = {
    "cosine": {"method.head": "cosine"},
    "cosface": {"method.head": "cosface"},
    "class_means": {"method.head": "class_means"},
    "ridge": {"method.head": "ridge"},
    "random_features": {"method.head": "ridge", "method.head_projection": 40},
    "aligned": {"method.align": True, "method.align_epochs": 1, "method.align_samples": 8},
    "aligned_cosines": {
        "method.head": "cosface", "method.align": True, "method.align_epochs": 1,
        "method.align_samples": 8, "method.align_logit_norm": None,
    },
}  # fmt: skip
METHODS = ("inflora", "sd_lora", "sequential_lora", "averaged_lora", "sequential")
# Each head once, each method at least once.
PAIRS = [(METHODS[place % len(METHODS)], head) for place, head in enumerate(HEADS)]


@pytest.mark.parametrize(("method", "head"), PAIRS)
def test_resumes_bit_exactly_and_says_what_it_keeps(method: str, head: str, tmp_path: Path) -> None:
    changes = {**HEADS[head], "data.evaluation": "test", "evaluation.during": 2}
    config = tiny(method, {**changes, "data.tasks": 3, "optim.epochs": 1})
    whole, resumed = SequentialTrainer(config), SequentialTrainer(config)
    run(whole, 2)
    whole.save(tmp_path)
    resumed.restore(tmp_path)
    (last,), (again,) = run(whole), run(resumed)
    assert comparable(last) == comparable(again)
    assert same(whole._state(), resumed._state())
    assert all(math.isfinite(value) for value in last.metrics.values())
    kept = last.metrics.get("memory/statistics_bytes")
    assert (kept is not None) == (head not in ("cosine", "cosface"))
    if kept is not None:
        assert 0 < kept <= last.metrics["memory/subspace_bytes"]
    assert ("head/ridge" in last.metrics) == (head in ("ridge", "random_features"))


@pytest.mark.parametrize("head", ["class_means", "ridge"])
def test_a_fitted_head_trains_as_a_linear_one(head: str) -> None:
    """The same losses, the same weights of the network; the trained head is thrown away."""
    fitted = SequentialTrainer(tiny("inflora", {"method.head": head}))
    linear = SequentialTrainer(tiny("inflora"))
    own, plain = run(fitted, 2), run(linear, 2)
    assert own[0].metrics["train/loss"] == plain[0].metrics["train/loss"]
    if head == "class_means":  # the choice of λ takes random numbers
        assert own[1].metrics["train/loss"] == pytest.approx(plain[1].metrics["train/loss"])
    assert fitted._method.state_dict()["heads"]["weights"] == []


def test_statistics_of_old_classes_stay_while_the_network_moves() -> None:
    """Means are of features as they were at the end of each class's own task."""
    trainer = SequentialTrainer(tiny("sequential_lora", {"method.head": "class_means"}))
    expected = []
    for task in trainer._stream:
        trainer.train_task()
        with torch.no_grad():
            features = trainer._model(to_unit(task.train.images))
        for label in task.classes:
            expected.append(features[task.train.labels == label].mean(0))
    method: Any = trainer._method
    means = method.state_dict()["heads"]["fitted"]["means"]
    torch.testing.assert_close(means, torch.stack(expected), rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        now = trainer._model(to_unit(trainer._stream[0].train.images)).mean(0)
    assert not torch.allclose(means[:3].mean(0), now, rtol=1e-3)
    scores = method.logits(features)
    torch.testing.assert_close(
        scores, functional.cosine_similarity(features[:, None], means[None], dim=2)
    )


def test_while_a_task_is_learned_old_ones_are_told_among_old_classes() -> None:
    trainer = trained("sequential_lora", {"method.head": "class_means"}, 2)
    method: Any = trainer._method
    method.begin_task(
        trainer._model, trainer._stream[2], trainer._batches(trainer._stream[2].train)
    )
    features = torch.randn(2, 16)
    assert method.logits(features).shape == (2, 6)
    assert method.trained_logits(features).shape == (2, 3)


@pytest.mark.slow
@pytest.mark.parametrize("head", HEADS)
def test_every_head_tells_easy_classes(head: str) -> None:
    learns = {
        "data.train_per_class": 16, "data.augmentation": "none", "data.tasks": 3,
        "optim.epochs": 12, "optim.lr": 2e-3, "optim.head_lr": 0.1, "diagnostics": False,
    }  # fmt: skip
    last = results_of("sequential_lora", {**learns, **HEADS[head]})[-1]
    assert last.metrics["val/task_known_accuracy"] > 0.5


@pytest.mark.parametrize("method", METHODS)
def test_alignment_is_for_every_method_and_moves_old_heads(method: str) -> None:
    changes = {**HEADS["aligned"], "data.tasks": 2, "optim.epochs": 1}
    aligned, plain = trained(method, changes), trained(method, {**changes, "method.align": False})
    heads = [trainer._method.state_dict()["heads"]["weights"] for trainer in (aligned, plain)]
    assert not torch.equal(heads[0][0], heads[1][0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"head": "nearest"}, r"method.head must be one of \['linear', 'cosine', 'cosface'"),
        ({"head": "ridge", "align": True}, r"align must be false with method.head ridge"),
        ({"head": "class_means", "align": True}, r"align must be false with method.head class"),
        ({"head_scale": 0.0}, r"head_scale must be a finite number above 0, but got 0.0"),
        ({"head_margin": 1.5}, r"head_margin must be in \[0, 1\], but got 1.5"),
        ({"head_projection": 0}, r"head_projection must be at least 1, but got 0"),
        ({"head_ridge_powers": ()}, r"head_ridge_powers must be powers in .*, but got \[\]"),
        ({"head_ridge_powers": (13,)}, r"head_ridge_powers must be .*, but got \[13\]"),
        ({"align_lr": 0.0}, r"align_lr must be a finite number above 0, but got 0.0"),
        ({"align_logit_norm": -1.0}, r"align_logit_norm must be a finite number above 0"),
        ({"align_ridge": -1.0}, r"align_ridge must be a finite number of at least 0"),
        ({"align_epochs": 0}, r"align_epochs must be at least 1, but got 0"),
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, Any], message: str) -> None:
    for method in METHODS[:2]:
        with pytest.raises(ValueError, match=message):
            tiny(method, {f"method.{key}": value for key, value in changes.items()})
