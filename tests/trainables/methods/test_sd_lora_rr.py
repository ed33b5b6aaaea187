import torch

from tests.trainables.trials import results_of, run, tiny
from trainables.config import catalog
from trainables.trainer import SequentialTrainer

PUBLISHED = [10] * 4 + [8] * 4 + [6] * 4


def test_the_published_schedule_by_task_number() -> None:
    config = catalog.declaration("sd_lora_rr").config()
    assert [config.rank_of(task) for task in range(1, 13)] == PUBLISHED
    assert config.rank_of(50) == 6
    assert catalog.declaration("sd_lora").config().rank_of(50) == 10


def test_pairs_have_the_rank_of_their_task() -> None:
    changes = {"data.tasks": 12, "optim.epochs": 1, "data.train_per_class": 4}
    trainer = SequentialTrainer(tiny("sd_lora_rr", changes))
    assert [result.metrics["subspace/rank"] for result in run(trainer)] == PUBLISHED
    for layer in trainer._model.layers.values():
        for part in layer.slices:
            assert torch.bincount(layer.stack_of(part).owner).tolist() == PUBLISHED


def test_any_schedule_may_be_given() -> None:
    results = results_of("sd_lora_rr", {"method.rank_steps": ["2 from 2", "12 from 4"]})
    assert [result.metrics["subspace/rank"] for result in results] == [10, 2, 2, 12]
