"""The trainable beside Ray: failures that end a trial, and those that are tried again."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.trainables.conftest import TINY
from trainables import ray_trainable, trainer
from trainables.ray_trainable import NOTHING_LEARNED, ContinualTrainable
from trainables.trainer import CHECKPOINT_NAME

PARAMS = {**TINY, "method.name": "sd_lora", "data.tasks": 3, "optim.epochs": 1}
DIVERGING = {**PARAMS, "method.name": "sequential", "optim.optimizer": "sgd", "optim.lr": 1e30}
Make = Callable[..., ContinualTrainable]


class _Context:
    """As Ray's, of a process without a GPU."""

    def get_accelerator_ids(self) -> dict[str, list[str]]:
        return {"GPU": []}


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Make:
    monkeypatch.setattr(ray_trainable, "get_runtime_context", _Context)
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
    found: dict[str, Any] = torch.load(folder / CHECKPOINT_NAME, weights_only=True)
    return found


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

    def train_epochs(*arguments: Any) -> float:
        raise FloatingPointError("the training loss must be finite, but it is nan.")

    monkeypatch.setattr(trainer, "train_epochs", train_epochs)
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
    expected = []
    while not plain._trainer.done:
        expected.append(plain.step())
    tried = memory(8, bad)
    trainable = make()
    found = []
    for index in range(3):
        found.append(trainable.step())
        shutil.rmtree(checkpoint(trainable, tmp_path / f"{index}"))
    assert tried == [None] * (bad + 1) + [8] * (3 - bad)
    for index, (one, other) in enumerate(zip(expected, found, strict=True)):
        assert other["task"] == index + 1
        assert other["metrics"]["train/loss"] == pytest.approx(one["metrics"]["train/loss"], 1e-3)
        reduced = {} if index < bad else {"memory/micro_batch": 8.0}
        assert set(other["metrics"]) == set(one["metrics"]) | set(reduced)
        assert {key: other[key] for key in reduced} == reduced
    assert found[-1]["done"]


def test_the_second_time_the_trial_ends(
    make: Make, memory: Callable[..., list[int | None]], tmp_path: Path
) -> None:
    tried = memory(4, 1)
    trainable = make()
    trainable.step()
    checkpoint(trainable, tmp_path / "one")
    result = trainable.step()
    assert result == {
        "done": True,
        "failed": "OutOfMemoryError: CUDA out of memory. Tried to allocate",
        "reason": "out_of_memory",
        "task": 1,
    }
    assert tried == [None, None, 8]
    assert state(checkpoint(trainable, tmp_path / "two"))["matrix"]
    # The process goes on with another trial, which has its own second try.
    assert trainable.reset_config({**PARAMS, "seed": 1})
    assert trainable.step()["task"] == 1
    checkpoint(trainable, tmp_path / "three")
    assert trainable.step()["reason"] == "out_of_memory"
    assert tried[3:] == [None, None, 8]


def test_without_the_last_boundary_nothing_is_trained_twice(
    make: Make, memory: Callable[..., list[int | None]]
) -> None:
    tried = memory(8, 1)
    trainable = make()
    trainable.step()
    assert trainable.step()["reason"] == "out_of_memory"
    assert tried == [None, None]


def test_a_single_image_cannot_be_halved(make: Make, memory: Callable[..., Any]) -> None:
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
    for one in results[1:]:
        again = resumed.step()
        assert again["task"] == one["task"]
        assert again["accuracy_row"] == one["accuracy_row"]


def test_what_ray_restores_is_newer_than_the_folder(make: Make, tmp_path: Path) -> None:
    trainable = make()
    trainable.step()
    newer = checkpoint(trainable, tmp_path / "newer")
    again = make(resume_from=str(tmp_path / "deleted meanwhile"))
    again.load_checkpoint(str(newer))
    assert again.step()["task"] == 2


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


def test_nothing_is_left_behind(make: Make, tmp_path: Path) -> None:
    trainable = make()
    trainable.step()
    checkpoint(trainable, tmp_path / "c")
    assert list(tmp_path.rglob("last_task/*"))
    trainable.stop()
    assert not list(tmp_path.rglob("last_task"))
