"""Features of a frozen network: an image passes once a machine, whoever asks, to the same bits."""

import errno
import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch

from tests.trainables.trials import comparable, run, tiny
from trainables.backbones.registry import create_network
from trainables.data.cache import folders
from trainables.data.cache.folders import FEATURES, HEADER, UNUSED_DAYS, remove_unused
from trainables.trainer import SequentialTrainer

FROZEN = {
    "nearest_mean": {},
    "linear_heads": {"data.augmentation": "none"},
    "ranpac": {"method.tuning": "none"},
}
OTHER = {"seed": 1, "data.tasks": 3}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a machine's caches, where nothing is yet."""
    monkeypatch.setenv("LRCS_CACHE_ROOT", str(tmp_path / "caches"))
    return tmp_path / "caches"


@pytest.fixture
def weights(tmp_path: Path) -> dict[str, Any]:
    """The setting by which trials of all seeds have one network."""
    path = tmp_path / "weights.pt"
    torch.save(create_network("test_vit", False, None, 8, 1).state_dict(), path)
    return {
        "backbone.checkpoint": str(path),
        "backbone.pretrained": True,
        "data.evaluation": "test",
        # The read-out goes over training images again where nothing keeps their features.
        "diagnostics": False,
    }


def passed(method: str, changes: dict[str, Any]) -> tuple[int, int, Any]:
    """Images that went through the network in a whole trial, those that it has, what it gave."""
    trainer, seen = SequentialTrainer(tiny(method, {**FROZEN.get(method, {}), **changes})), 0

    def counted(network: torch.nn.Module, images: tuple[torch.Tensor], _: Any) -> None:
        nonlocal seen
        seen += len(images[0])

    with trainer._model.network.register_forward_hook(counted):
        results = run(trainer)
    there = sum(len(task.train) + len(task.held_out) for task in trainer._stream)
    return seen, there, [(comparable(result), result.accuracy_row) for result in results]


def own(root: Path) -> Path:
    """The one folder of features."""
    (folder,) = (path for path in root.iterdir() if path.is_dir())
    return folder


@pytest.mark.parametrize("method", FROZEN)
def test_an_image_passes_once_whatever_seed_tasks_or_method(
    method: str, root: Path, weights: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, there, _ = passed(method, weights)
    assert seen == there
    again = passed(method, weights | OTHER)
    assert again[0] == 0
    if method != "nearest_mean":
        assert passed("nearest_mean", weights)[0] == 0
    monkeypatch.setenv("LRCS_CACHE_ROOT", f"{root}-2")
    assert passed(method, weights | OTHER) == (there, there, again[2])


@pytest.mark.parametrize(
    "change",
    [
        {"optim.precision": "bfloat16"},
        {"data.rendition": "street"},
        {"backbone.checkpoint": None, "backbone.pretrained": False},
    ],
)
def test_other_networks_images_and_precisions_share_nothing(
    change: dict[str, Any], root: Path, weights: dict[str, Any]
) -> None:
    passed("nearest_mean", weights)
    seen, there, _ = passed("nearest_mean", weights | change)
    assert seen == there


def damage(folder: Path, how: str) -> None:
    """Changes a number, cuts the rows short, or the header."""
    path = folder / (HEADER if how == "header" else FEATURES)
    content = bytearray(path.read_bytes())
    if how == "changed":
        content[9] ^= 64
    else:
        del content[-10:]
    path.write_bytes(content)


@pytest.mark.parametrize("how", ["changed", "cut", "header"])
def test_what_is_damaged_is_computed_again(
    how: str, root: Path, weights: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    _, there, results = passed("nearest_mean", weights)
    damage(own(root), how)
    with caplog.at_level(logging.WARNING):
        seen, _, again = passed("nearest_mean", weights)
    assert again == results and "computed again" in caplog.text
    # Of a class at most, unless nothing says where rows lie.
    assert seen == there if how == "header" else 0 < seen < there / 12
    assert passed("nearest_mean", weights) == (0, there, results)


@pytest.mark.parametrize("full", [False, True])
def test_where_nothing_can_be_written_features_are_computed(
    full: bool,
    root: Path,
    weights: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, there, results = passed("nearest_mean", weights)
    monkeypatch.setenv("LRCS_CACHE_ROOT", f"{root}-2")
    if full:
        refuse = Mock(side_effect=OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
        monkeypatch.setattr(Path, "replace", refuse)
    else:
        Path(f"{root}-2").touch()
    with caplog.at_level(logging.WARNING):
        assert passed("nearest_mean", weights) == (there, there, results)
    assert caplog.text.count("not kept") == 1


def test_features_that_nobody_opened_for_long_are_removed(
    root: Path, weights: dict[str, Any]
) -> None:
    passed("nearest_mean", weights)
    folder = own(root)
    assert remove_unused(root) == []
    for path in (folder, *folder.iterdir()):
        os.utime(path, (0, path.stat().st_mtime - (UNUSED_DAYS + 1) * folders.DAY))
    (line,) = remove_unused(root)
    assert line.startswith(f"removed {folder}") and not list(root.iterdir())


@pytest.mark.process
@pytest.mark.nightly
def test_of_two_processes_at_once_one_computes(root: Path, weights: dict[str, Any]) -> None:
    code = (
        "import sys, json; from tests.trainables.test_frozen import passed; "
        "seen, there, results = passed('nearest_mean', json.loads(sys.argv[1])); "
        "print(seen, there)"
    )
    command = [sys.executable, "-c", code, json.dumps(weights)]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    told = [process.communicate()[0].split() for process in started]
    assert sum(int(seen) for seen, _ in told) == int(told[0][1])
