"""The trainable beside Ray: failures that end a trial, and those that are tried again."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch

from tests.trainables.trials import TINY
from trainables import ray_trainable, trainer
from trainables.ray_trainable import NOTHING_LEARNED, ContinualTrainable
from trainables.trainer import CHECKPOINT_NAME

PARAMS = {**TINY, "method.name": "sd_lora", "data.tasks": 3, "optim.epochs": 1}
DIVERGING = {**PARAMS, "method.name": "sequential", "optim.optimizer": "sgd", "optim.lr": 1e30}
Make = Callable[..., ContinualTrainable]


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Make:
    # As Ray's, of a process without a GPU.
    context = Mock(**{"get_accelerator_ids.return_value": {"GPU": []}})
    monkeypatch.setattr(ray_trainable, "get_runtime_context", lambda: context)
    monkeypatch.setattr("ray.tune.trainable.trainable.DEFAULT_STORAGE_PATH", tmp_path)

    def build(**changes: Any) -> ContinualTrainable:
        return ContinualTrainable({**PARAMS, **changes})

    return build


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], list[int | None]]:
    """Lets a device hold so many images at once; gives the list of what was tried."""

    def limit(images: int, first_bad_task: int = 0) -> list[int | None]:
        tried: list[int | None] = []
        train = trainer.train_epochs

        def train_epochs(*arguments: Any) -> float | None:
            task, optim = arguments[3], arguments[5]
            tried.append(optim.micro_batch)
            if task.index >= first_bad_task and (optim.micro_batch or optim.batch_size) > images:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate\nmore")
            return train(*arguments)

        monkeypatch.setattr(trainer, "train_epochs", train_epochs)
        return tried

    return limit


def checkpoint(trainable: ContinualTrainable, folder: Path) -> Path:
    trainable.save_checkpoint(str(folder))
    return folder


def state(folder: Path) -> dict[str, Any]:
    checkpoint: dict[str, Any] = torch.load(folder / CHECKPOINT_NAME, weights_only=True)
    return checkpoint


def test_a_diverging_trial_ends_with_a_reason(make: Make, tmp_path: Path) -> None:
    trainable = make(**DIVERGING)
    result = trainable.step()
    assert result["done"] and result["reason"] == "diverged" and result["task"] == 0
    assert result["failed"].startswith("FloatingPointError: the training loss must be finite")
    assert set(result) == {"done", "failed", "reason", "task"}
    # Ray saves after every step.
    assert (checkpoint(trainable, tmp_path / "c") / NOTHING_LEARNED).exists()


def test_a_failure_later_leaves_the_last_boundary(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainable = make()
    trainable.step()
    before = checkpoint(trainable, tmp_path / "one")
    kept = state(before)
    shutil.rmtree(before)  # as Ray does once it has stored it
    diverging = FloatingPointError("the training loss must be finite, but it is nan.")
    monkeypatch.setattr(trainer, "train_epochs", Mock(side_effect=diverging))
    result = trainable.step()
    assert (result["task"], result["reason"]) == (1, "diverged")
    after = state(checkpoint(trainable, tmp_path / "two"))
    assert torch.equal(kept["generator"], after["generator"])
    assert kept["matrix"] == after["matrix"]


@pytest.mark.parametrize("bad", [0, 1])
def test_memory_that_runs_out_is_answered_with_half_the_images(
    make: Make, memory: Callable[..., list[int | None]], tmp_path: Path, bad: int
) -> None:
    plain = make()
    expected = [plain.step() for _ in range(3)]
    tried = memory(8, bad)
    trainable = make()
    results = []
    for index in range(3):
        results.append(trainable.step())
        shutil.rmtree(checkpoint(trainable, tmp_path / f"{index}"))
    assert tried == [None] * (bad + 1) + [8] * (3 - bad)
    for index, (whole, other) in enumerate(zip(expected, results, strict=True)):
        assert other["task"] == index + 1
        assert other["metrics"]["train/loss"] == pytest.approx(whole["metrics"]["train/loss"], 1e-3)
        reduced = {} if index < bad else {"memory/micro_batch": 8.0}
        assert set(other["metrics"]) == set(whole["metrics"]) | set(reduced)
        assert {key: other[key] for key in reduced} == reduced
    assert results[-1]["done"]


def test_the_second_time_the_trial_ends(
    make: Make, memory: Callable[..., list[int | None]], tmp_path: Path
) -> None:
    tried = memory(4, 1)
    trainable = make()
    trainable.step()
    checkpoint(trainable, tmp_path / "one")
    result = trainable.step()
    failed = "OutOfMemoryError: CUDA out of memory. Tried to allocate"
    assert result == {"done": True, "failed": failed, "reason": "out_of_memory", "task": 1}
    assert tried == [None, None, 8]
    assert state(checkpoint(trainable, tmp_path / "two"))["matrix"]
    # The process goes on with another trial, which has its own second try.
    assert trainable.reset_config({**PARAMS, "seed": 1})
    assert trainable.step()["task"] == 1
    checkpoint(trainable, tmp_path / "three")
    assert trainable.step()["reason"] == "out_of_memory"
    assert tried[3:] == [None, None, 8]


def test_a_loss_that_is_no_mean_over_images_has_no_second_try(
    make: Make, memory: Callable[..., list[int | None]], tmp_path: Path
) -> None:
    tried = memory(4, 1)
    trainable = make(**{"method.name": "l2p", "method.vote": "batch"})
    trainable.step()
    checkpoint(trainable, tmp_path / "one")
    assert trainable.step()["reason"] == "out_of_memory"
    assert tried == [None, None]


def test_nothing_is_trained_twice_without_the_last_boundary_or_with_a_single_image(
    make: Make, memory: Callable[..., list[int | None]]
) -> None:
    tried = memory(8, 1)
    trainable = make()
    trainable.step()
    assert trainable.step()["reason"] == "out_of_memory"
    assert tried == [None, None]
    # Nor can a single image be halved.
    tried = memory(0)
    assert make(**{"optim.micro_batch": 1}).step()["reason"] == "out_of_memory"
    assert tried == [1]


@pytest.mark.parametrize("reset", [False, True])
def test_a_trial_goes_on_from_a_folder(make: Make, tmp_path: Path, reset: bool) -> None:
    whole = make()
    results = [whole.step()]
    folder = checkpoint(whole, tmp_path / "c")
    results += [whole.step(), whole.step()]
    config = {**PARAMS, "resume_from": str(folder)}
    resumed = make(seed=7) if reset else make(resume_from=str(folder))
    if reset:
        resumed.step()
        assert resumed.reset_config(dict(config))
    for result in results[1:]:
        again = resumed.step()
        assert again["task"] == result["task"]
        assert again["accuracy_row"] == result["accuracy_row"]


def test_what_ray_restores_is_newer_than_the_folder(make: Make, tmp_path: Path) -> None:
    trainable = make()
    trainable.step()
    newer = checkpoint(trainable, tmp_path / "newer")
    again = make(resume_from=str(tmp_path / "deleted meanwhile"))
    again.load_checkpoint(str(newer))
    assert again.step()["task"] == 2
    # Nothing of what was kept for a second try is left behind.
    assert list(tmp_path.rglob("last_task/*"))
    for each in (trainable, again):
        each.stop()
    assert not list(tmp_path.rglob("last_task"))


@pytest.mark.parametrize("content", [None, b"", b"no archive"])
def test_a_folder_without_a_whole_checkpoint_is_an_error(
    make: Make, tmp_path: Path, content: bytes | None
) -> None:
    folder = tmp_path / "c"
    folder.mkdir()
    if content is not None:
        (folder / CHECKPOINT_NAME).write_bytes(content)
    trainable = make(resume_from=str(folder))
    message = rf"resume_from must be a folder with a whole checkpoint, but {folder} is not \("
    with pytest.raises(ValueError, match=message):
        trainable.step()
