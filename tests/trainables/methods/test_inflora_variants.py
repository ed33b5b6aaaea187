from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from trainables.backbones.selection import block_numbers
from trainables.config import TrialConfig
from trainables.trainer import SequentialTrainer, TaskResult

MakeConfig = Callable[..., TrialConfig]


def run(config: TrialConfig) -> tuple[SequentialTrainer, list[TaskResult]]:
    trainer = SequentialTrainer(config)
    return trainer, [trainer.train_task() for _ in range(3)]


def untimed(result: TaskResult) -> dict[str, float]:
    return {k: v for k, v in result.metrics.items() if not k.startswith(("time/", "memory/host"))}


def test_b5_is_plain_gpm_on_the_first_blocks() -> None:
    found = TrialConfig.from_params({"method.name": "inflora_b5"}).to_params()
    assert (found["backbone.blocks"], found["method.dual"]) == ("first:5", False)
    assert block_numbers("first:5", 12) == [0, 1, 2, 3, 4]


def test_b5_equals_plain_gpm_where_there_are_no_more_than_five_blocks(tiny: MakeConfig) -> None:
    assert block_numbers("first:5", 4) == [0, 1, 2, 3]
    _, variant = run(tiny("inflora_b5"))
    _, plain = run(tiny("inflora", {"method.dual": False}))
    assert [untimed(one) for one in variant] == [untimed(one) for one in plain]


def test_no_block_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="'first:N' with N of at least 1"):
        block_numbers("first:0", 4)


def test_alignment_moves_old_heads_and_only_from_the_second_task_on(tiny: MakeConfig) -> None:
    trainer = SequentialTrainer(tiny("inflora_ca", {"method.rank": 2}))
    heads = trainer._method._heads  # type: ignore[attr-defined]
    trainer.train_task()
    first = [one.clone() for one in heads.parameters()]
    trainer.train_task()
    assert not any(torch.equal(*pair) for pair in zip(first, heads.parameters(), strict=False))
    plain = SequentialTrainer(tiny("inflora", {"method.rank": 2, "method.dual": False}))
    plain.train_task()
    same = plain._method._heads.parameters()  # type: ignore[attr-defined]
    assert all(torch.equal(*pair) for pair in zip(first, same, strict=True))


def test_alignment_lets_the_classes_of_all_tasks_be_compared(tiny: MakeConfig) -> None:
    changes = {"data.train_per_class": 16, "optim.epochs": 8, "optim.head_lr": 0.02}
    _, aligned = run(tiny("inflora_ca", changes))
    _, plain = run(tiny("inflora", {**changes, "method.dual": False}))
    assert aligned[-1].metrics["val/accuracy"] > plain[-1].metrics["val/accuracy"]


def test_class_statistics_are_counted_as_memory(tiny: MakeConfig) -> None:
    _, aligned = run(tiny("inflora_ca"))
    _, plain = run(tiny("inflora", {"method.dual": False}))
    # 9 classes of 6 training images, 16 features: a mean and the upper triangle of a factor of
    # 6 rows, in float32.
    extra = 9 * (16 + 6 * 16 - 15) * 4
    sizes = [one[0].metrics["memory/subspace_bytes"] for one in (aligned, plain)]
    assert sizes[0] - sizes[1] == extra / 3
    last = aligned[-1].metrics["memory/subspace_bytes"]
    memories = aligned_memories(aligned)
    assert last == extra + memories


def aligned_memories(results: list[TaskResult]) -> float:
    """Bytes of the bases: 8 a number, `dim_used` columns of 16 in each of two layers."""
    used = [results[-1].metrics[f"subspace/dim_used/layer_{layer:02d}"] for layer in range(2)]
    return 8 * 16 * sum(used)


@pytest.mark.parametrize("changes", [{}, {"method.head_norm": True}])
def test_alignment_resumes_bit_exactly(
    changes: dict[str, Any], tiny: MakeConfig, tmp_path: Path
) -> None:
    config = tiny("inflora_ca", changes)
    whole, resumed = SequentialTrainer(config), SequentialTrainer(config)
    whole.train_task()
    whole.train_task()
    whole.save(tmp_path)
    resumed.restore(tmp_path)
    assert untimed(whole.train_task()) == untimed(resumed.train_task())


def test_the_cifar_recipe_of_ca_is_its_own() -> None:
    asked = {"method.name": "inflora_ca", "recipe": "inflora/cifar100", "preset": "released"}
    found = TrialConfig.from_params(asked).to_params()
    assert (found["method.rank"], found["method.head_norm"]) == (5, True)
    assert (found["method.align"], found["method.dual"]) == (True, False)
    assert (found["optim.optimizer"], found["optim.epochs"]) == ("sgd", 20)
    assert found["method.first_task"] == "below"


@pytest.mark.parametrize("head_norm", [False, True])
def test_statistics_are_of_what_the_linear_heads_read(head_norm: bool, tiny: MakeConfig) -> None:
    """Before a layer norm, to shrink the means of older tasks would change nothing."""
    trainer = SequentialTrainer(tiny("inflora_ca", {"method.head_norm": head_norm}))
    # Pretrained networks end with a norm that has weights; this one's are still 1 and 0.
    trainer._model.network.get_parameter("norm.bias").data.uniform_(0, 1)
    trainer.train_task()
    means = trainer._method.state_dict()["alignment"]["means"]
    # Normalised features, and so their means, sum to 0 over the width.
    assert all((abs(float(mean.sum())) < 1e-3) == head_norm for mean in means)
