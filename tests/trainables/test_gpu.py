from pathlib import Path

import pytest
import torch
from torch import Tensor

from study.planning.costs.probe import measure
from tests.trainables.trials import tiny
from trainables.config import TrialConfig, catalog
from trainables.fitting import backward, create_optimizer
from trainables.low_rank.dual_gpm import DualGPM, Energy
from trainables.low_rank.moments import second_moments
from trainables.low_rank.precision import network_products
from trainables.trainer import SequentialTrainer

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize("method", catalog.methods())
def test_a_device_trains_resumes_and_reports_its_memory(method: str, tmp_path: Path) -> None:
    config = tiny(method, {"data.tasks": 2, "data.evaluation": "test", "evaluation.during": 1})
    trainer = SequentialTrainer(config, "cuda")
    first = trainer.train_task()
    assert first.metrics["memory/peak_device_bytes"] > 0
    trainer.save(tmp_path)
    resumed = SequentialTrainer(config, "cuda")
    resumed.restore(tmp_path)
    second = resumed.train_task()
    assert second.task == 2
    assert 0 <= second.metrics["test/readout_accuracy"] <= 1


def test_a_probe_measures_peaks_with_what_the_driver_takes() -> None:
    cost = measure(tiny("sd_lora").to_params(), cpu=1, gpu=True)
    assert cost.device_total is not None and len(cost.device_bytes) == 2
    # A CUDA context alone takes hundreds of megabytes.
    assert 1e8 < max(cost.device_bytes) < cost.device_total


def test_memory_that_runs_out_is_torch_s_own_error() -> None:
    """The one that the trainable answers with smaller micro-batches."""
    with pytest.raises(torch.OutOfMemoryError):
        torch.empty(2**45, device="cuda")


@pytest.mark.parametrize("method", ["inflora", "sd_lora"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_step_does_not_wait_for_the_device(method: str, precision: str) -> None:
    trainer = SequentialTrainer(tiny(method, {"optim.precision": precision}), "cuda")
    trainer.train_task()
    model, task, optim = trainer._model, trainer._stream[1], trainer.config.optim
    train = trainer._batches(task.train)
    groups, _ = trainer._method.begin_task(model, task, train)
    for group in groups:
        for parameter in group.parameters:
            parameter.requires_grad_(True)
    optimizer = create_optimizer(groups, optim)

    def step(images: Tensor, labels: Tensor) -> None:
        with network_products(images.device):
            backward(model, trainer._method, images, labels, task.classes, None)
        optimizer.step()

    batches = train.shuffled()
    # The first step sets up what all others use.
    step(*next(batches))
    torch.cuda.set_sync_debug_mode("error")
    try:
        for images, labels in batches:
            step(images, labels)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len(train) > optim.batch_size


@pytest.mark.parametrize("energy", ["sigma4", "sigma2"])
def test_moments_stay_on_the_device_and_decide_as_on_a_cpu(energy: Energy) -> None:
    settings = {"method.name": "inflora", "data.tasks": 161, "data.train_per_class": 12}
    config = TrialConfig.from_params(settings)
    trainers = {name: SequentialTrainer(config, name) for name in ("cpu", "cuda")}
    decided: dict[str, list[object]] = {"cpu": [], "cuda": []}
    for name, trainer in trainers.items():
        layers = trainer._model.layers
        memories = {
            layer_name: DualGPM(layer.in_features, energy) for layer_name, layer in layers.items()
        }
        for task in trainer._stream.tasks[:4]:
            images = trainer._batches(task.train).plain()
            moments = second_moments(trainer._model, layers, images)
            for layer_name, memory in memories.items():
                assert moments[layer_name].device.type == name
                rows = memory.design(moments[layer_name], 10)
                memory.absorb(moments[layer_name], 0.95)
                decided[name].append((layer_name, memory.kind, memory.free_dim, len(rows)))
    assert decided["cpu"] == decided["cuda"]


def test_icons_train_with_fused_attention_and_channels_last() -> None:
    config = TrialConfig.from_params({"method.name": "sd_lora", "data.tasks": 161})
    trainer = SequentialTrainer(config, "cuda")
    trainer.train_task()
    blocks = [block for block in trainer._model.modules() if hasattr(block, "fused_attn")]
    assert blocks and all(block.fused_attn for block in blocks)
    maps = [parameter for parameter in trainer._model.parameters() if parameter.ndim == 4]
    assert all(parameter.is_contiguous(memory_format=torch.channels_last) for parameter in maps)
