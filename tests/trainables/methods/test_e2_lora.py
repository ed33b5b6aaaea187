"""E2-LoRA: what its branches touch, distillation, released quirks, cost."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.trainables.draws import normal, seeded
from tests.trainables.trials import results_of, tiny, trained
from trainables.backbones.inspection import final_norm
from trainables.config import TrialConfig
from trainables.fitting import train_epochs
from trainables.method import MethodContext, adapted_backbone, create_method
from trainables.methods.e2_lora.method import E2LoRA, distillation
from trainables.trainer import SequentialTrainer


def method_of(trainer: SequentialTrainer) -> E2LoRA:
    assert isinstance(trainer._method, E2LoRA)
    return trainer._method


def begun(trainer: SequentialTrainer) -> None:
    """Begins the next task, and trains nothing."""
    task = trainer._stream[trainer.tasks_seen]
    trainer._method.begin_task(trainer._model, task, trainer._batches(task.train))


def test_branches_are_on_the_whole_qkv_and_on_fc1_where_there_are_such() -> None:
    for network, widths in (
        ("test_vit", [48, 64, 48, 64]),
        ("test_swin", [48, 64, 96, 128, 96, 128]),
        ("test_convnext", [64, 64, 128, 128]),
    ):
        layers = SequentialTrainer(tiny("e2_lora", {"backbone.name": network}))._model.layers
        slices = [layer.slices for layer in layers.values()]
        assert [rows.stop - rows.start for own in slices for rows in own.values()] == widths
    changes = {"backbone.layers": ["*.qkv"], "backbone.adapt": ["q", "v"]}
    results = results_of("e2_lora", changes, 2)
    assert [result.metrics["subspace/rank"] for result in results] == [
        16, 16 - results[1].metrics["subspace/dim_kept"]
    ]  # fmt: skip


def test_outputs_along_what_old_pairs_keep_do_not_move() -> None:
    trainer = trained("e2_lora", tasks=1)
    begun(trainer)
    layers, pairs = trainer._model.layers, method_of(trainer)._pairs
    x = normal(20, 16).float()
    kept = {name: own["qkv" if "qkv" in own else "all"].pairs[0].up for name, own in pairs.items()}
    before = {name: layer(x) @ kept[name] for name, layer in layers.items()}
    with torch.no_grad():
        for layer in layers.values():
            for name in layer.branches:
                down = layer.branch_of(name).down
                down.copy_(normal(*down.shape))
    for name, layer in layers.items():
        moved = layer(x) @ kept[name] - before[name]
        assert float(moved.detach().abs().max()) < 1e-4
        assert float((layer(x) - layer.base(x)).detach().abs().max()) > 1


def test_only_down_learns_after_the_first_task_and_a_pass_composes_one_pair() -> None:
    trainer = SequentialTrainer(tiny("e2_lora", {"data.tasks": 6, "optim.epochs": 1}))
    method, model = method_of(trainer), trainer._model
    for task in trainer._stream:
        train = trainer._batches(task.train)
        groups, _ = method.begin_task(model, task, train)
        layers = model.layers.values()
        ranks = [layer.branch_of(name).down.shape[0] for layer in layers for name in layer.slices]
        sides = 0 if task.index else sum(rank * rank for rank in ranks)
        assert sum(factor.numel() for factor in groups[0].parameters) == 16 * sum(ranks) + sides
        # What a step multiplies is the new pair alone.
        assert all(len(layer._pairs()) == 1 for layer in layers)
        held = method.end_task(model, task, train)["memory/branch_bytes"]
        # Two blocks with 48 and 64 outputs: a basis of them and 16 inputs, in float32.
        assert held == 2 * 4 * (48 * 48 + 48 * 16 + 64 * 64 + 64 * 16)


def test_distillation_by_numpy() -> None:
    scores, teacher = normal(5, 3), normal(5, 3, seed=1)

    def soft(of: Tensor) -> np.ndarray[Any, Any]:
        raised = np.exp(of.numpy() / 2)
        whole: np.ndarray[Any, Any] = raised / raised.sum(1, keepdims=True)
        return whole

    expected = 4 * (soft(teacher) * np.log(soft(teacher) / soft(scores))).sum(1).mean()
    assert float(distillation(scores, teacher, 2.0)) == pytest.approx(expected)
    assert float(distillation(scores[:, :1], teacher[:, :1], 2.0)) == 0


def test_the_teacher_is_the_network_without_the_pair_that_is_trained() -> None:
    trainer = trained("e2_lora", tasks=1)
    begun(trainer)
    method, model, task = method_of(trainer), trainer._model, trainer._stream[1]
    images = torch.rand(4, 1, 8, 8, generator=seeded())
    found = model(images).detach()
    # A new pair starts at zero: there is nothing to distil yet.
    assert float(method._distilled(model, images, task, None).penalty.detach()) < 1e-6
    for layer in model.layers.values():
        for name in layer.branches:
            torch.nn.init.normal_(layer.branch_of(name).down, generator=seeded())
    assert not torch.allclose(model(images), found, atol=1e-2)
    assert torch.equal(model.without_open(images), found)
    assert torch.equal(model(images), model(images))
    scored = method._distilled(model, images, task, None)
    told = method.logits(model(images))[:, :3]
    meant = method.logits(found)[:, :3]
    expected = 0.25 * distillation(told, meant, 2.0)
    assert 0 < float(scored.penalty.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    assert scored.penalty.requires_grad


def test_distillation_holds_scores_of_old_classes() -> None:
    def drift(distill: float) -> float:
        changes = {"method.distill": distill, "method.align": False, "optim.lr": 0.1}
        trainer = trained("e2_lora", changes, 1)
        method, model, task = method_of(trainer), trainer._model, trainer._stream[1]
        train = trainer._batches(task.train)
        groups, _ = method.begin_task(model, task, train)
        images = torch.cat(list(train.plain()))
        before = method.logits(model(images))[:, :3].detach()
        (stage,) = method.stages(task)
        optim = trainer.config.optim
        train_epochs(model, method, groups, task, train, optim, forward=stage.forward)
        return float(distillation(method.logits(model(images))[:, :3].detach(), before, 2.0))

    assert drift(100.0) < 0.5 * drift(0.0)


@pytest.mark.parametrize("images", ["batch", "all"])
def test_principal_directions_depend_on_the_batch_only_if_taken_of_one(images: str) -> None:
    """Half of the images are plain in order, and the network takes four at once."""

    def spectra(seed: int) -> Tensor:
        changes = {"method.pca_images": images, "optim.batch_size": 4, "optim.lr": 1e-9}
        trainer = SequentialTrainer(tiny("e2_lora", changes))
        task = trainer._stream[0]
        train = trainer._batches(task.train)
        trainer._method.begin_task(trainer._model, task, train)
        for layer in trainer._model.layers.values():
            for name in layer.branches:
                torch.nn.init.eye_(layer.branch_of(name).up)
        trainer._generator.manual_seed(seed)
        trainer._method.end_task(trainer._model, task, train)
        return method_of(trainer)._pairs["layer_00"]["qkv"].pairs[0].spectrum

    assert torch.equal(spectra(1), spectra(2)) == (images == "all")


def test_a_single_images_tokens_are_centred() -> None:
    """Their mean goes into no direction, though most of an output may be it."""
    trainer = trained("e2_lora", tasks=1)
    pair = method_of(trainer)._pairs["layer_01"]["all"].pairs[0]
    layer = trainer._model.layers["layer_01"]
    seen: list[Tensor] = []
    layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    for images in trainer._batches(trainer._stream[0].train).plain():
        trainer._model(images)
    outputs = (
        torch.cat([rows.flatten(0, 1) for rows in seen]).double() @ (pair.up @ pair.down).double().T
    )
    expected = np.linalg.eigvalsh(np.cov(outputs.numpy().T, bias=True))[::-1][:16]
    # The inputs here are those after the first block took its pair over, by rounding alone.
    np.testing.assert_allclose(pair.spectrum[:16].numpy(), expected, rtol=1e-3, atol=1e-9)


def test_the_final_norm_is_reset_as_released_and_not_else() -> None:
    for changes, expected in (({}, [3.0, 2.0]), ({"preset": "released"}, [1.0, 0.0])):
        config = tiny("e2_lora", changes)
        model = adapted_backbone(config)
        norm = final_norm(model.network)
        assert norm is model.network.get_submodule("norm")
        torch.nn.init.constant_(norm.weight, 3.0)
        torch.nn.init.constant_(norm.bias, 2.0)
        create_method(config.method, MethodContext(model, 4, torch.device("cpu"), seeded()))
        assert [norm.weight.unique().tolist(), norm.bias.unique().tolist()] == [
            [value] for value in expected
        ]


def test_ranks_and_shares_are_recorded_and_room_never_runs_out() -> None:
    changes = {
        "data.classes": None, "data.tasks": 60, "data.train_per_class": 3, "optim.epochs": 1,
        "backbone.layers": ["*.qkv"], "backbone.adapt": ["q"], "diagnostics": False,
        "method.align": False, "optim.lr": 1e-3,
    }  # fmt: skip
    results = [result.metrics for result in results_of("e2_lora", changes, 18)]
    for task, metrics in enumerate(results[1:], start=2):
        assert metrics["subspace/rank"] >= max(1, math.ceil(16 / task))
        assert metrics["subspace/rank"] + metrics["subspace/dim_kept"] == 16
        assert 0 <= metrics["subspace/threshold"] < 1
    assert 0 < results[10]["subspace/least_kept"] <= 1
    # With 16 outputs, 17 tasks cannot all have one.
    emptied = [metrics["subspace/exhausted_layers"] for metrics in results[14:18]]
    assert emptied == [0, 0, 2, 2]
    assert results[17]["subspace/least_kept"] == 0
    assert not any("interference" in name for name in results[-1])


def test_bases_stay_orthonormal_over_many_tasks() -> None:
    changes = {
        "data.classes": None, "data.tasks": 60, "data.train_per_class": 3, "optim.epochs": 1,
        "diagnostics": False, "method.align": False, "optim.lr": 1e-3,
        "backbone.layers": ["blocks.0.mlp.fc1"],
    }  # fmt: skip
    trainer = trained("e2_lora", changes, 12)
    (pairs,) = (own for slices in method_of(trainer)._pairs.values() for own in slices.values())
    columns = torch.cat([pair.up for pair in pairs.pairs], dim=1)
    assert columns.shape == (64, 64)
    assert float((columns.T @ columns - torch.eye(64)).abs().max()) < 1e-5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method.distill": -1.0}, "method.distill must be a finite number of at least 0"),
        ({"method.temperature": 0.0}, "method.temperature must be a finite number above 0"),
        ({"method.pca_images": "one"}, "method.pca_images must be one of"),
        ({"method.rank": 4}, "unknown key 'method.rank'"),
        ({"method.align_epochs": 0}, "method.align_epochs must be at least 1"),
        (
            {"backbone.name": "resnet18", "method.norm_reset": True},
            "method.norm_reset must be false for a network that does not end with a layer norm",
        ),
    ],
)
def test_bad_fields_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrialConfig.from_params({"method.name": "e2_lora", **changes})


def test_alignment_is_the_released_one() -> None:
    filled = TrialConfig.from_params({"method.name": "e2_lora", "preset": "released"}).to_params()
    keys = ("align", "align_epochs", "align_lr", "align_samples", "align_logit_norm", "align_ridge")
    expected = [True, 3, 0.01, 256, None, 2e-4]
    assert [filled[f"method.{key}"] for key in keys] == expected
