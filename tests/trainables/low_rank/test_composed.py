"""A composed weight gives the outputs and gradients of autograd's own way, at less cost."""

from unittest.mock import Mock

import pytest
import torch
from torch import Tensor, nn

from tests.trainables.draws import normal
from trainables.low_rank import branch, composed
from trainables.low_rank.branch import LowRankLinear
from trainables.low_rank.composed import Pair, composed_linear

IN, OUT = 12, 18
FEW, MANY = 3, 500  # tokens: thin products are cheaper, or the gradient by whole rows is
SLICES = (slice(0, 6), slice(12, 18))


def old_and_new(rank: int = 7) -> list[Pair]:
    """Old directions with trained magnitudes and a pair in training, on each of two slices."""
    pairs = []
    for at, rows in enumerate(SLICES):
        scale = normal(rank, seed=at).requires_grad_()
        pairs.append(
            Pair(rows, normal(6, rank, seed=10 + at), scale, normal(rank, IN, seed=20 + at))
        )
        up, down = normal(6, 2, seed=30 + at), normal(2, IN, seed=40 + at)
        magnitude = torch.tensor(0.8, dtype=torch.float64)
        pairs.append(
            Pair(rows, up.requires_grad_(), magnitude.requires_grad_(), down.requires_grad_())
        )
    return pairs


def plainly(x: Tensor, weight: Tensor, bias: Tensor, pairs: list[Pair]) -> Tensor:
    """The same map, composed by autograd's own operations."""
    whole = weight.clone()
    for pair in pairs:
        whole[pair.rows] = whole[pair.rows] + (pair.up * pair.scale) @ pair.down
    return nn.functional.linear(x, whole, bias)


@pytest.mark.parametrize("tokens", [FEW, MANY])
@pytest.mark.parametrize("train_weight", [False, True])
def test_outputs_and_gradients_are_those_of_autograd(tokens: int, train_weight: bool) -> None:
    pairs = old_and_new()
    # No method trains `down` of an old pair; what `Pair` says holds for it all the same.
    pairs[0].down.requires_grad_(train_weight)
    x = normal(tokens, IN, seed=1).requires_grad_()
    weight = normal(OUT, IN, seed=2).requires_grad_(train_weight)
    bias = normal(OUT, seed=3).requires_grad_(train_weight)
    trained = [x, *(factor for pair in pairs for factor in (pair.scale, pair.up, pair.down))]
    trained = [tensor for tensor in [*trained, weight, bias] if tensor.requires_grad]
    outputs, gradients = [], []
    for way in (plainly, composed_linear):
        out = way(x, weight, bias, pairs)
        outputs.append(out)
        gradients.append(torch.autograd.grad(torch.tanh(out / 20).square().sum(), trained))
    torch.testing.assert_close(outputs[1], outputs[0], atol=1e-11, rtol=1e-12)
    for mine, expected in zip(gradients[1], gradients[0], strict=True):
        torch.testing.assert_close(mine, expected, atol=1e-11, rtol=1e-10)


def test_one_token_needs_no_dimension_of_its_own() -> None:
    x, weight, pairs = normal(IN), normal(OUT, IN, seed=2), old_and_new()
    expected = composed_linear(x[None], weight, None, pairs)[0]
    torch.testing.assert_close(composed_linear(x, weight, None, pairs), expected)


@pytest.mark.parametrize(("tokens", "dense"), [(FEW, False), (MANY, True)])
def test_the_way_with_fewer_multiplications_is_taken(
    tokens: int, dense: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from_rows = Mock(wraps=composed._from_rows)
    monkeypatch.setattr(composed, "_from_rows", from_rows)
    composed_linear(normal(tokens, IN), normal(OUT, IN), None, old_and_new()).sum().backward()
    assert from_rows.called == dense


def test_inputs_are_not_kept_where_down_is_fixed() -> None:
    """InfLoRA's pairs: what is kept of n tokens is a number for each rank."""
    x, rank = normal(MANY, IN).requires_grad_(), 2
    up = normal(6, rank, seed=1).requires_grad_()
    pair = Pair(SLICES[0], up, torch.ones((), dtype=torch.float64), normal(rank, IN, seed=2))
    pack = Mock(side_effect=lambda tensor: tensor)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        composed_linear(x, normal(OUT, IN), None, [pair])
    assert max(call.args[0].numel() for call in pack.call_args_list) == MANY * rank


def layer_with_old_pairs() -> LowRankLinear:
    torch.manual_seed(0)
    layer = LowRankLinear(nn.Linear(IN, OUT), {"a": SLICES[0], "b": SLICES[1]})
    for task in range(2):
        for name, opened in layer.add_branch(3).items():
            nn.init.normal_(opened.up)
            nn.init.normal_(opened.down)
            layer.stack(name, torch.tensor(2.0), torch.tensor(2.0), task + 1)
    return layer


def test_without_gradients_the_weight_is_composed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = layer_with_old_pairs(), normal(4, IN).float()
    compose = Mock(wraps=branch.compose)
    monkeypatch.setattr(branch, "compose", compose)
    with torch.no_grad():
        assert torch.equal(layer(x), layer(x))
    compose.assert_called_once()


@pytest.mark.parametrize("what", ["alpha", "weight", "step", "branch", "loaded"])
def test_a_kept_weight_is_let_go_when_something_changes(what: str) -> None:
    layer, x = layer_with_old_pairs(), normal(4, IN).float()
    with torch.no_grad():
        layer(x)
        if what == "alpha":
            layer.stack_of("a").alpha.mul_(2)
        elif what == "weight":
            layer.weight[0] += 1
        elif what == "branch":
            nn.init.ones_(layer.add_branch(1)["a"].up)
            nn.init.ones_(layer.branch_of("a").down)
        elif what == "loaded":
            state = layer.changes()
            state["stacks"]["a"]["alpha"] = 3 * state["stacks"]["a"]["alpha"]
            layer.load_changes(state)
    if what == "step":
        optimizer = torch.optim.SGD(layer.parameters(), lr=0.1, fused=True)
        layer(x).square().sum().backward()
        optimizer.step()
    expected = nn.functional.linear(x, layer.weight + layer.delta(), layer.base.bias)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), expected, atol=1e-5, rtol=1e-5)


def test_autocast_gives_outputs_of_its_type_and_gradients_of_the_parameters() -> None:
    layer, x = layer_with_old_pairs(), normal(MANY, IN).float()
    exact = layer(x)
    largest = float(exact.detach().abs().max())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = layer(x)
        with torch.no_grad():
            assert torch.equal(layer(x), rounded)
    assert rounded.dtype == torch.bfloat16
    # 2⁻⁸ relative to the largest: bfloat16 keeps 8 bits.
    torch.testing.assert_close(rounded.float(), exact, atol=0.02 * largest, rtol=0)
    rounded.float().square().sum().backward()
    alpha = layer.stack_of("a").alpha
    gradient = alpha.grad
    assert gradient is not None and gradient.dtype == torch.float32
    (expected,) = torch.autograd.grad(exact.square().sum(), [alpha])
    torch.testing.assert_close(
        gradient, expected, rtol=0.03, atol=0.03 * float(expected.abs().max())
    )
