"""Merged weights in a stock timm network give the scores of the trial."""

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from study.ledger.folder import MODEL_FILES
from tests.trainables.trials import tiny, trained
from trainables.backbones.timm_lookup import describe
from trainables.config import catalog
from trainables.export.merge import export, merged
from trainables.method import Prompting
from trainables.trainer import SequentialTrainer

# One of each family of timm whose networks have two; the others are refused (test_build.py).
TWO_CLASSIFIERS = (
    *("deit_tiny_distilled_patch16_224", "efficientformer_l1", "efficientformerv2_s0"),
    *("iformer_m_distilled", "levit_128s", "pit_ti_distilled_224", "repvit_m0_9"),
    "swiftformer_xs",
)


def saved(method: str, changes: dict[str, Any] | None, folder: Path) -> SequentialTrainer:
    """A trial of all tasks, its checkpoint saved in `folder`."""
    trainer = trained(method, changes)
    trainer.save(folder)
    return trainer


def loaded(folder: Path) -> tuple[nn.Module, dict[str, Any]]:
    """As a person does: by the file beside the weights."""
    spec = importlib.util.spec_from_file_location("load", folder / "load.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    network: nn.Module
    about: dict[str, Any]
    network, about = module.load()
    return network, about


@torch.no_grad()
def check(trainer: SequentialTrainer, folder: Path, size: int = 8) -> dict[str, Any]:
    """Compares the scores of random images; returns what model.json says."""
    export(folder, folder / "model")
    network, about = loaded(folder / "model")
    images = torch.rand(16, about["channels"], size, size, generator=torch.Generator())
    features, merged_scores = trainer._model(images), network(images)
    if isinstance(trainer._method, Prompting):
        expected = trainer._method.forward(trainer._model, images).logits
    else:
        expected = trainer._method.logits(features)
    if about["scores"].endswith("times the length of the feature"):
        expected = expected * features.norm(dim=1, keepdim=True)
    if about["scores"].endswith("plus the squared length of the feature"):
        expected = expected + features.square().sum(1, keepdim=True)
    assert merged_scores.shape == expected.shape
    torch.testing.assert_close(merged_scores, expected, rtol=1e-4, atol=2e-5)
    return about


@pytest.mark.parametrize("method", catalog.methods())
def test_every_method_keeps_its_scores(method: str, tmp_path: Path) -> None:
    trainer = saved(method, None, tmp_path)
    about = check(trainer, tmp_path)
    assert about["tasks"] == 4 and about["classes"] == 12
    assert about["class_names"] == list(trainer._stream.class_order)
    assert about["accuracy"] == pytest.approx(trainer._accuracies[-1])
    # What a study sends to MLflow of a model is all of it, else it could not be loaded there.
    # (Loading it may have left compiled code beside it.)
    written = {path.name for path in (tmp_path / "model").iterdir() if path.is_file()}
    assert written <= {*MODEL_FILES}
    assert ("prompts.py" in written) == ("prompts" in about)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["coda_prompt", "dual_prompt", "hide_prompt", "l2p"])
def test_prompts_go_along_with_the_lines_that_apply_them(method: str, tmp_path: Path) -> None:
    """Also where there is no class token; large prompts, so that another choice would show."""
    changes = {"backbone.name": "compact_vit", "backbone.pretrained": True, "data.image_size": 32}
    few = {"data.train_per_class": 3, "optim.epochs": 1, "optim.prompt_lr": 0.1}
    init = {} if method == "coda_prompt" else {"method.init": "symmetric"}
    about = check(saved(method, {**changes, **few, **init}, tmp_path), tmp_path, 32)
    assert about["prompts"]["method"] == method
    assert (tmp_path / "model" / "prompts.py").is_file()


@pytest.mark.parametrize(
    ("method", "leak"),
    [
        ("l2p", {"method.vote": "batch"}),
        ("dual_prompt", {"method.vote": "batch"}),
        ("hide_prompt", {"method.reshape_leak": True}),
    ],
)
def test_prompts_that_depend_on_other_images_are_refused(
    method: str, leak: dict[str, Any], tmp_path: Path
) -> None:
    saved(method, {**leak, "data.tasks": 1, "optim.epochs": 1}, tmp_path)
    with pytest.raises(ValueError, match=r"for exported weights, but (it is|they are)"):
        export(tmp_path, tmp_path / "model")


@pytest.mark.parametrize("network", ["test_swin", "test_convnext"])
@pytest.mark.parametrize("method", ["inflora", "sd_lora", "ranpac"])
def test_other_networks(method: str, network: str, tmp_path: Path) -> None:
    check(saved(method, {"backbone.name": network}, tmp_path), tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {"method.head": "cosface"},
        {"method.head": "class_means"},
        {"method.head": "class_means", "method.head_metric": "euclidean"},
        {"method.head": "ridge"},
        {"method.head": "ridge", "method.head_projection": 20},
    ],
)
@pytest.mark.parametrize("norm", [False, True])
def test_every_head_keeps_its_scores(
    changes: dict[str, Any], norm: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = saved("inflora", {**changes, "method.head_norm": norm, "data.tasks": 2}, tmp_path)
    if norm:
        # The length that scores are said to be off by is that of what the heads read.
        monkeypatch.setattr(trainer, "_model", Prepared(trainer))
    check(trainer, tmp_path)


class Prepared(nn.Module):
    """Normalised features, in place of a network's."""

    def __init__(self, trainer: SequentialTrainer) -> None:
        super().__init__()
        self.model = trainer._model

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.model(images)
        return nn.functional.layer_norm(features, features.shape[1:])


@pytest.mark.nightly
@pytest.mark.parametrize("name", TWO_CLASSIFIERS)
def test_two_classifiers_keep_the_scores(name: str, tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (12, 224, 224, 3), dtype=np.uint8)
    split = np.repeat(["train", "test"], [8, 4])
    np.savez(tmp_path / "large.npz", images=images, labels=np.arange(12) % 4, split=split)
    data = {"name": "npz:large", "root": str(tmp_path), "image_size": 224, "classes": 4}
    changes = {f"data.{key}": value for key, value in {**data, "tasks": 2}.items()}
    few = {"data.train_per_class": 2, "data.test_per_class": 1, "optim.epochs": 1}
    layers = [layer.path for layer in describe(name, (), 224, 3).layers if layer.called]
    own = {"backbone.name": name, "backbone.pretrained": False, "backbone.layers": layers[:1]}
    about = check(saved("linear_heads", {**changes, **few, **own}, tmp_path), tmp_path, 224)
    assert len(about["classifiers"]) == 2
    # Nor is a mean of random features that of the mean feature.
    ranpac = {"method.tuning": "none", "method.head_projection": 20}
    saved("ranpac", {**changes, **few, **own, **ranpac}, tmp_path)
    with pytest.raises(ValueError, match=rf"head_projection must be null .* of {name}"):
        export(tmp_path, tmp_path / "model")


@pytest.mark.nightly
@pytest.mark.process
@pytest.mark.parametrize(
    ("method", "name"),
    [
        ("sd_lora", "vit_tiny_patch16_224"),
        ("sd_lora", "resnet10t"),
        ("l2p", "vit_tiny_patch16_224"),
    ],
)
def test_stock_timm_models_need_nothing_of_this_project(
    method: str, name: str, tmp_path: Path
) -> None:
    changes = {"backbone.name": name, "data.image_size": 32, "data.classes": 4, "data.tasks": 2}
    few = {"data.train_per_class": 4, "optim.epochs": 1}
    own = {"method.rank": 2} if method == "sd_lora" else {}
    about = check(saved(method, {**changes, **few, **own}, tmp_path), tmp_path, 32)
    assert about["timm"]
    # As MLflow keeps them.
    sent = tmp_path / "sent"
    sent.mkdir()
    for file in MODEL_FILES:
        if (tmp_path / "model" / file).exists():
            shutil.copy(tmp_path / "model" / file, sent)
    code = (
        "import sys, torch\n"
        "for name in ('study', 'trainables', 'trainables.backbones'): sys.modules[name] = None\n"
        "from load import load\n"
        "network, about = load()\n"
        "print(tuple(network(torch.zeros(2, about['channels'], 32, 32)).shape))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=sent, capture_output=True, text=True)
    assert done.stdout == "(2, 4)\n", done.stderr


def test_branches_change_the_weights(tmp_path: Path) -> None:
    """So that equal scores say something: the trial's weights are not the backbone's."""
    trainer = saved("inflora", None, tmp_path)
    fresh = SequentialTrainer(tiny("inflora"))._model.network.state_dict()
    weights = merged(torch.load(tmp_path / "trainer.pt", weights_only=True))[0]
    key = "blocks.0.attn.qkv.weight"
    assert not torch.equal(weights[key], fresh["blocks.0.attn.qkv.base.weight"])
    assert trainer.done


def test_pixels_of_the_pretraining_are_told(tmp_path: Path) -> None:
    changes = {"backbone.name": "vit_tiny_patch16_224", "backbone.normalise": "pretrained"}
    small = {"data.image_size": 32, "data.classes": 2, "data.tasks": 1, "data.train_per_class": 2}
    saved("linear_heads", {**changes, **small}, tmp_path)
    export(tmp_path, tmp_path / "model")
    about = json.loads((tmp_path / "model" / "model.json").read_text(encoding="utf-8"))
    assert (about["mean"], about["std"]) == ([0.5], [0.5])


@pytest.mark.process
def test_the_command_exports_pairs(tmp_path: Path) -> None:
    saved("linear_heads", None, tmp_path)
    module = "trainables.export.merge"
    subprocess.run([sys.executable, "-m", module, tmp_path, tmp_path / "new"], check=True)
    names = {path.name for path in (tmp_path / "new").iterdir()}
    assert names == {"model.safetensors", "model.json", "load.py"}
