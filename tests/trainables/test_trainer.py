from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.trainables.trials import comparable, run, same
from trainables import catalog, fitting
from trainables import trainer as trainer_module
from trainables.config import TrialConfig
from trainables.trainer import SequentialTrainer

MakeConfig = Callable[..., TrialConfig]


def first_to_end(trainer: SequentialTrainer) -> SequentialTrainer:
    run(trainer)
    return trainer


@pytest.mark.parametrize("method", catalog.methods())
@pytest.mark.parametrize("after", [1, 3])
def test_resuming_after_any_task_equals_the_uninterrupted_run(
    method: str, after: int, tiny: MakeConfig, tmp_path: Path
) -> None:
    whole = run(SequentialTrainer(tiny(method)))
    first = SequentialTrainer(tiny(method))
    for _ in range(after):
        first.train_task()
    first.save(tmp_path)
    resumed = SequentialTrainer(tiny(method))
    resumed.restore(tmp_path)
    assert resumed.tasks_seen == after
    for one, other in zip(whole[after:], run(resumed), strict=True):
        assert comparable(one) == comparable(other)
        assert one.accuracy_row == other.accuracy_row
    assert same(first_to_end(first)._state(), resumed._state())


@pytest.mark.parametrize("method", catalog.methods())
@pytest.mark.parametrize("tasks", [1, 5, 12])
def test_any_number_of_tasks_up_to_the_classes(method: str, tasks: int, tiny: MakeConfig) -> None:
    config = tiny(method, {"data.tasks": tasks, "data.train_per_class": 4, "optim.epochs": 1})
    assert len(run(SequentialTrainer(config))) == tasks


def test_a_checkpoint_of_another_trial_is_refused(tiny: MakeConfig, tmp_path: Path) -> None:
    SequentialTrainer(tiny("inflora")).save(tmp_path)
    other = SequentialTrainer(tiny("inflora", {"method.rank": 3}))
    with pytest.raises(ValueError, match=r"method\.rank is 10 there and 3 here"):
        other.restore(tmp_path)


def test_a_checkpoint_of_another_version_is_refused(
    tiny: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer_module, "CHECKPOINT_VERSION", 2)
    SequentialTrainer(tiny("inflora")).save(tmp_path)
    monkeypatch.undo()
    with pytest.raises(ValueError, match=r"must be of version 3, but it is of 2\."):
        SequentialTrainer(tiny("inflora")).restore(tmp_path)


def test_scores_have_products_as_in_training(
    tiny: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The heads' too: with TF32 on a CUDA device, in training and in evaluation."""
    inside: list[bool] = []
    places = []

    @contextmanager
    def watched(_: torch.device) -> Iterator[None]:
        inside.append(True)
        yield
        inside.pop()

    for module in (fitting, trainer_module):
        monkeypatch.setattr(module, "network_products", watched)
    trainer = SequentialTrainer(tiny("inflora"))
    scores = trainer._method.logits

    def logits(features: torch.Tensor) -> torch.Tensor:
        places.append((torch.is_grad_enabled(), bool(inside)))
        return scores(features)

    monkeypatch.setattr(trainer._method, "logits", logits)
    trainer.train_task()
    trainer.time_evaluation(4)
    assert set(places) == {(True, True), (False, True)}


def test_a_task_beyond_the_last_is_refused(tiny: MakeConfig) -> None:
    trainer = SequentialTrainer(tiny("sequential", {"data.tasks": 1}))
    trainer.train_task()
    with pytest.raises(RuntimeError, match="none left"):
        trainer.train_task()


def test_a_loss_that_explodes_is_an_error_and_not_a_result(tiny: MakeConfig) -> None:
    trainer = SequentialTrainer(tiny("sequential", {"optim.optimizer": "sgd", "optim.lr": 1e30}))
    with pytest.raises(FloatingPointError, match=r"optim\.lr"):
        trainer.train_task()


def test_checkpoints_never_hold_the_pretrained_backbone(tiny: MakeConfig, tmp_path: Path) -> None:
    trainer = SequentialTrainer(tiny("inflora", {"method.rank": 2}))
    trainer.train_task()
    trainer.save(tmp_path)
    state = torch.load(tmp_path / "trainer.pt", weights_only=True)
    adapted: dict[str, Any] = state["model"]
    assert set(adapted) == {"layer_00", "layer_01"}
    assert set(adapted["layer_00"]["rows"]) == {"k", "v"}


def test_directions_are_saved_without_the_weight_they_stand_beside(
    tiny: MakeConfig, tmp_path: Path
) -> None:
    trainer = SequentialTrainer(tiny("sd_lora", {"method.rank": 2}))
    trainer.train_task()
    trainer.save(tmp_path)
    layer = torch.load(tmp_path / "trainer.pt", weights_only=True)["model"]["layer_00"]
    assert layer["rows"] == {}
    assert set(layer["stacks"]) == {"q", "v"}


def test_sequential_moves_the_whole_network_and_low_rank_methods_only_branches(
    tiny: MakeConfig,
) -> None:
    moved = {}
    for method in ("sequential", "sd_lora", "inflora"):
        trainer = SequentialTrainer(tiny(method, {"data.tasks": 2}))
        before = {name: value.clone() for name, value in trainer._model.state_dict().items()}
        trainer.train_task()
        after = trainer._model.state_dict()
        moved[method] = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved["sequential"] == set(before)
    assert moved["sd_lora"] == set()
    assert all(name.endswith("qkv.base.weight") for name in moved["inflora"])
    assert len(moved["inflora"]) == 2


def test_head_learns_at_its_own_rate(tiny: MakeConfig) -> None:
    """With a vanishing rate the head stays where its seed put it."""
    heads = {}
    for rate in (1e-12, 0.1):
        trainer = SequentialTrainer(tiny("sequential", {"optim.head_lr": rate}))
        trainer.train_task()
        heads[rate] = trainer._method.state_dict()["heads"]["weights"][0]
    assert float(heads[1e-12].std()) == pytest.approx(0.02, rel=0.5)
    assert float((heads[0.1] - heads[1e-12]).abs().mean()) > 0.05


def test_any_timm_vision_transformer_takes_the_images_of_the_data() -> None:
    config = TrialConfig.from_params(
        {
            "method.name": "inflora",
            "backbone.name": "vit_tiny_patch16_224",
            "backbone.pretrained": False,
            "data.image_size": 64,
            "data.classes": 4,
            "data.tasks": 2,
            "data.train_per_class": 4,
            "optim.epochs": 1,
        }
    )
    trainer = SequentialTrainer(config)
    assert len(trainer._model.layers) == 12
    assert trainer.train_task().metrics["subspace/dim_free"] < 192


def test_alpha_learns_at_its_own_rate(tiny: MakeConfig) -> None:
    """With a vanishing rate the first magnitude stays at alpha_init times the pair's norm."""
    slow = tiny("sd_lora", {"optim.alpha_lr": 1e-12, "data.tasks": 2})
    fast = tiny("sd_lora", {"optim.alpha_lr": 0.1, "data.tasks": 2})
    moved = {}
    for name, config in (("slow", slow), ("fast", fast)):
        trainer = SequentialTrainer(config)
        first = trainer.train_task().metrics["alpha/task_01"]
        moved[name] = abs(trainer.train_task().metrics["alpha/task_01"] - first)
    assert moved["slow"] < 1e-6
    assert moved["fast"] > 1e-3
