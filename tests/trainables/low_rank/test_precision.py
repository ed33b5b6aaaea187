"""bfloat16 agrees with float32 within what its 8 bits allow, and leaves weights as they are."""

import pytest
import torch
from torch import Tensor

from tests.trainables.draws import seeded
from tests.trainables.trials import trained
from trainables.config import TrialConfig
from trainables.low_rank.precision import computing, network_products
from trainables.trainer import SequentialTrainer

SETTINGS = {"data.tasks": 161, "data.train_per_class": 12}


def step(method: str, precision: str) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Features, loss and gradients of one batch of icons, early in a second task."""
    params = {**SETTINGS, "method.name": method, "optim.epochs": 1}
    trainer = SequentialTrainer(TrialConfig.from_params(params))
    trainer.train_task()
    model, task = trainer._model, trainer._stream[1]
    train = trainer._batches(task.train)
    groups, _ = trainer._method.begin_task(model, task, train)
    model.requires_grad_(False)
    trained = [parameter for group in groups for parameter in group.parameters]
    generator = seeded()
    for parameter in trained:
        # Not at zero, where the gradient of `down` would be.
        with torch.no_grad():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.02)
        parameter.requires_grad_(True)
    images, labels = next(iter(train.shuffled()))
    model.precision = precision
    features = model(images)
    loss = trainer._method.loss(trainer._method.logits(features), labels, task.classes)
    return features.detach(), loss.detach(), list(torch.autograd.grad(loss, trained))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["inflora", "sd_lora"])
def test_a_step_agrees_with_float32(method: str) -> None:
    exact, rounded = step(method, "float32"), step(method, "bfloat16")
    assert rounded[0].dtype == torch.float32
    distance = torch.linalg.vector_norm(rounded[0] - exact[0], dim=1)
    relative = distance / torch.linalg.vector_norm(exact[0], dim=1)
    assert 0 < float(relative.max()) < 0.03
    assert float(rounded[1]) == pytest.approx(float(exact[1]), abs=0.02)
    for mine, expected in zip(rounded[2], exact[2], strict=True):
        assert mine.dtype == torch.float32
        if expected.numel() > 1:
            cosine = torch.cosine_similarity(mine.flatten(), expected.flatten(), dim=0)
            assert float(cosine) > 0.98
            assert float(mine.norm()) == pytest.approx(float(expected.norm()), rel=0.05)


def test_weights_stay_in_float32() -> None:
    model = trained("sd_lora", {"optim.precision": "bfloat16"}, 1)._model
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_float32_rounds_nothing_on_a_cpu() -> None:
    x = torch.randn(4, 4)
    with computing(torch.device("cpu"), "float32"):
        assert (x @ x).dtype == torch.float32
    with computing(torch.device("cpu"), "bfloat16"):
        assert (x @ x).dtype == torch.bfloat16


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_tf32_is_on_inside_and_as_before_outside() -> None:
    place = torch.backends.cuda.matmul
    before = place.fp32_precision
    with network_products(torch.device("cuda")):
        assert place.fp32_precision == "tf32"
    assert place.fp32_precision == before
