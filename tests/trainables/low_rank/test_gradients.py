import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.trainables.draws import seeded
from trainables.low_rank.branch import LowRankLinear
from trainables.low_rank.gradients import weight_gradients


def build(convolution: bool) -> tuple[nn.Module, dict[str, LowRankLinear]]:
    torch.manual_seed(0)
    base = nn.Conv2d(3, 6, 1) if convolution else nn.Linear(3, 6)
    layer = LowRankLinear(base, {"k": slice(2, 4), "v": slice(4, 6)})
    head = nn.Linear(6 * 4 if convolution else 6, 5)
    return nn.Sequential(layer, nn.Flatten(), nn.Tanh(), head), {"layer": layer}


def batches(convolution: bool) -> list[tuple[Tensor, Tensor]]:
    generator = seeded(1)
    shape = (3, 2, 2) if convolution else (3,)
    return [(torch.randn(n, *shape, generator=generator), torch.arange(n) % 5) for n in (7, 4)]


@pytest.mark.parametrize("convolution", [False, True])
def test_is_the_gradient_of_the_mean_loss_by_the_adapted_rows(convolution: bool) -> None:
    model, layers = build(convolution)
    data = batches(convolution)
    gradient = weight_gradients(model, layers, data, functional.cross_entropy)["layer"]
    images, labels = (torch.cat(parts) for parts in zip(*data, strict=True))
    functional.cross_entropy(model(images), labels).backward()
    expected = layers["layer"].base.weight.grad
    assert expected is not None
    torch.testing.assert_close(gradient.float(), expected.flatten(1)[2:])


def test_leaves_no_trace() -> None:
    model, layers = build(False)
    layers["layer"].base.weight.requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    weight_gradients(model, layers, batches(False), functional.cross_entropy)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not layers["layer"].base.weight.requires_grad
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    with pytest.raises(ZeroDivisionError):
        weight_gradients(model, layers, batches(False), lambda outputs, _: outputs / (1 // 0))
    assert not layers["layer"].base.weight.requires_grad


def test_a_layer_that_the_loss_does_not_read_has_a_gradient_of_zero() -> None:
    model, layers = build(False)
    layers["other"] = LowRankLinear(nn.Linear(4, 4), {"all": slice(0, 4)})
    gradients = weight_gradients(model, layers, batches(False), functional.cross_entropy)
    assert not gradients["other"].any()
    assert gradients["layer"].any()
