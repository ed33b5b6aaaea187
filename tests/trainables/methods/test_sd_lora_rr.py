from collections.abc import Callable

import torch

from trainables.config import TrialConfig
from trainables.method_files import method_config
from trainables.trainer import SequentialTrainer

MakeConfig = Callable[..., TrialConfig]
PUBLISHED = [10] * 4 + [8] * 4 + [6] * 4


def test_the_published_schedule_by_task_number() -> None:
    config = method_config("sd_lora_rr")()
    assert [config.rank_of(task) for task in range(1, 13)] == PUBLISHED
    assert config.rank_of(50) == 6
    assert method_config("sd_lora")().rank_of(50) == 10


def test_pairs_have_the_rank_of_their_task(tiny: MakeConfig) -> None:
    changes = {"data.tasks": 12, "optim.epochs": 1, "data.train_per_class": 4}
    trainer = SequentialTrainer(tiny("sd_lora_rr", changes))
    ranks = [trainer.train_task().metrics["subspace/rank"] for _ in range(12)]
    assert ranks == PUBLISHED
    for layer in trainer._model.layers.values():
        for part in layer.slices:
            assert torch.bincount(layer.stack_of(part).owner).tolist() == PUBLISHED


def test_any_schedule_may_be_given(tiny: MakeConfig) -> None:
    trainer = SequentialTrainer(
        tiny("sd_lora_rr", {"method.rank_steps": ["2 from 2", "12 from 4"]})
    )
    ranks = [trainer.train_task().metrics["subspace/rank"] for _ in range(4)]
    assert ranks == [10, 2, 2, 12]
