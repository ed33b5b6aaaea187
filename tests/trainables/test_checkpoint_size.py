"""A checkpoint is bounded: what one of a ViT-B holds after 50 tasks, from sizes checked here."""

from pathlib import Path
from typing import Any

import pytest

from tests.trainables.trials import tiny, trained
from trainables.trainer import CHECKPOINT_NAME, SequentialTrainer

LIMIT = 100e6
FLOAT, DOUBLE, LONG = 4, 8, 8
# The archive's own account of each tensor, at most, and of the rest.
ENTRY, ARCHIVE = 1024, 65536
RANK = 10


def shared_bytes(width: int, layers: int, classes: int) -> int:
    """Heads, and the mean moment of old tasks of each layer as a triangle in float32."""
    return FLOAT * (classes * (width + 1) + layers * width * (width + 1) // 2)


def inflora_bytes(width: int, layers: int, classes: int, basis: int) -> int:
    """With merged rows of k and v, and subspace bases of `basis` columns in all."""
    rows = 2 * layers * width**2 * FLOAT
    return shared_bytes(width, layers, classes) + rows + basis * width * DOUBLE


def sd_lora_bytes(width: int, layers: int, classes: int, tasks: int, rank: int) -> int:
    """With a stack of directions on q and v of each layer."""
    of_a_rank = 2 * width * FLOAT + LONG  # up, down, owner
    of_a_pair = LONG + 3 * FLOAT  # task; share, length and alpha
    stacks = 2 * layers * tasks * (rank * of_a_rank + of_a_pair)
    return shared_bytes(width, layers, classes) + stacks


def archive_bytes(method: str, layers: int, tasks: int) -> int:
    """Room for the archive's account of all tensors: of each layer, and of a head a task."""
    of_a_layer = 4 if method == "inflora" else 15
    return (of_a_layer * layers + 2 * tasks) * ENTRY + ARCHIVE


def columns(trainer: SequentialTrainer) -> list[int]:
    """Directions in the subspace memory of each layer."""
    method: Any = trainer._method
    return [method._memories[name].basis.shape[1] for name in trainer._model.layers]


@pytest.mark.parametrize("method", ["inflora", "sd_lora"])
def test_the_sizes_are_those_of_a_real_checkpoint(method: str, tmp_path: Path) -> None:
    """To the byte: there is nothing of the pretrained backbone in it."""
    trainer = trained(method, {"method.rank": 3}, 2)
    result = trainer.train_task()
    layers = trainer._model.layers
    width = next(iter(layers.values())).in_features
    if method == "inflora":
        expected = inflora_bytes(width, len(layers), 9, sum(columns(trainer)))
    else:
        expected = sd_lora_bytes(width, len(layers), 9, 3, 3)
    # The generator's state is the one thing beside.
    generator = trainer._generator.get_state().numel()
    assert result.metrics["memory/checkpoint_bytes"] == expected + generator
    trainer.save(tmp_path)
    written = (tmp_path / CHECKPOINT_NAME).stat().st_size
    assert expected < written < expected + generator + archive_bytes(method, len(layers), 3)


@pytest.mark.parametrize("classes", [100, 200])
def test_a_vit_b_after_50_tasks_stays_within_the_limit(classes: int) -> None:
    width, layers, tasks = 768, 12, 50
    # A dual memory keeps the smaller half: never more than width / 2 columns a layer.
    inflora = inflora_bytes(width, layers, classes, layers * width // 2)
    sd_lora = sd_lora_bytes(width, layers, classes, tasks, RANK)
    assert inflora + archive_bytes("inflora", layers, tasks) < LIMIT
    assert sd_lora + archive_bytes("sd_lora", layers, tasks) < LIMIT


@pytest.mark.parametrize("energy", ["sigma4", "sigma2"])
def test_a_dual_memory_never_keeps_more_than_half(energy: str) -> None:
    changes = {"method.energy": energy, "method.epsilon": 0.999}
    trainer = SequentialTrainer(tiny("inflora", changes))
    while not trainer.done:
        trainer.train_task()
        assert 2 * max(columns(trainer)) <= 16
