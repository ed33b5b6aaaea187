from typing import Any

import pytest
import torch

from tests.trainables.trials import comparable, results_of, same, tiny, trained
from trainables.backbones.selection import block_numbers
from trainables.config import TrialConfig
from trainables.trainer import SequentialTrainer


def test_b5_is_plain_gpm_on_the_first_blocks() -> None:
    filled = TrialConfig.from_params({"method.name": "inflora_b5"}).to_params()
    assert (filled["backbone.blocks"], filled["method.dual"]) == ("first:5", False)
    assert block_numbers("first:5", 12) == [0, 1, 2, 3, 4]
    # Where there are no more than five blocks, that is all of them.
    assert block_numbers("first:5", 4) == [0, 1, 2, 3]
    variant, plain = results_of("inflora_b5"), results_of("inflora", {"method.dual": False})
    assert [comparable(result) for result in variant] == [comparable(result) for result in plain]


def test_alignment_moves_old_heads_and_only_from_the_second_task_on() -> None:
    trainer = trained("inflora_ca", {"method.rank": 2}, 1)
    heads = trainer._method._heads  # type: ignore[attr-defined]
    first = [parameter.clone() for parameter in heads.parameters()]
    trainer.train_task()
    assert not any(torch.equal(*pair) for pair in zip(first, heads.parameters(), strict=False))
    plain = trained("inflora", {"method.rank": 2, "method.dual": False}, 1)
    same = plain._method._heads.parameters()  # type: ignore[attr-defined]
    assert all(torch.equal(*pair) for pair in zip(first, same, strict=True))


@pytest.mark.slow
def test_alignment_lets_the_classes_of_all_tasks_be_compared() -> None:
    changes = {"data.train_per_class": 16, "optim.epochs": 8, "optim.head_lr": 0.02}
    aligned = results_of("inflora_ca", changes, 3)
    plain = results_of("inflora", {**changes, "method.dual": False}, 3)
    assert aligned[-1].metrics["val/accuracy"] > plain[-1].metrics["val/accuracy"]


def test_class_statistics_are_counted_as_memory() -> None:
    aligned = results_of("inflora_ca", tasks=3)
    plain = results_of("inflora", {"method.dual": False}, 1)
    # 9 classes of 6 training images, 16 features: a mean and the upper triangle of a factor of
    # 6 rows, in float32.
    extra = 9 * (16 + 6 * 16 - 15) * 4
    sizes = [results[0].metrics["memory/subspace_bytes"] for results in (aligned, plain)]
    assert sizes[0] - sizes[1] == extra / 3
    # Bases: 8 bytes a number, `dim_used` columns of 16 in each of two layers.
    last = aligned[-1].metrics
    used = sum(last[f"subspace/dim_used/layer_{layer:02d}"] for layer in range(2))
    assert last["memory/subspace_bytes"] == extra + 8 * 16 * used


def test_the_cifar_recipe_of_ca_is_its_own() -> None:
    asked = {"method.name": "inflora_ca", "recipe": "inflora/cifar100", "preset": "released"}
    filled = TrialConfig.from_params(asked).to_params()
    assert (filled["method.rank"], filled["method.head_norm"]) == (5, True)
    assert (filled["method.align"], filled["method.dual"]) == (True, False)
    assert (filled["optim.optimizer"], filled["optim.epochs"]) == ("sgd", 20)
    assert filled["method.first_task"] == "below"


@pytest.mark.parametrize("head_norm", [False, True])
def test_statistics_are_of_what_the_linear_heads_read(head_norm: bool) -> None:
    """Before a layer norm, to shrink the means of older tasks would change nothing."""
    trainer = SequentialTrainer(tiny("inflora_ca", {"method.head_norm": head_norm}))
    # Pretrained networks end with a norm that has weights; this one's are still 1 and 0.
    trainer._model.network.get_parameter("norm.bias").data.uniform_(0, 1)
    trainer.train_task()
    means = trainer._method.state_dict()["heads"]["alignment"]["means"]
    # Normalised features, and so their means, sum to 0 over the width.
    assert all((abs(float(mean.sum())) < 1e-3) == head_norm for mean in means)


def test_statistics_that_earlier_releases_kept_beside_the_heads_are_taken() -> None:
    trainer = trained("inflora_ca", {"data.tasks": 2, "method.align_epochs": 1})
    method: Any = trainer._method
    state = method.state_dict()
    heads = dict(state["heads"])
    earlier = {**state, "alignment": heads.pop("alignment"), "heads": heads}
    other: Any = SequentialTrainer(trainer.config)._method
    other.load_state_dict(earlier)
    assert same(other.state_dict(), state)
