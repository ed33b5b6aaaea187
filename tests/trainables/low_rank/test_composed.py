"""A composed weight gives the outputs and gradients of autograd's own way, at less cost."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from trainables.low_rank import branch, composed
from trainables.low_rank.branch import LowRankLinear
from trainables.low_rank.composed import Pair, composed_linear

IN, OUT = 12, 18
FEW, MANY = 3, 500  # tokens: thin products are cheaper, or the gradient by whole rows is
SLICES = (slice(0, 6), slice(12, 18))


def drawn(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def old_and_new(rank: int = 7) -> list[Pair]:
    """Old directions with trained magnitudes and a pair in training, on each of two slices."""
    pairs = []
    for at, rows in enumerate(SLICES):
        scale = drawn(rank, seed=at).requires_grad_()
        pairs.append(Pair(rows, drawn(6, rank, seed=10 + at), scale, drawn(rank, IN, seed=20 + at)))
        up, down = drawn(6, 2, seed=30 + at), drawn(2, IN, seed=40 + at)
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
    x = drawn(tokens, IN, seed=1).requires_grad_()
    weight = drawn(OUT, IN, seed=2).requires_grad_(train_weight)
    bias = drawn(OUT, seed=3).requires_grad_(train_weight)
    trained = [x, *(one for pair in pairs for one in (pair.scale, pair.up, pair.down))]
    trained = [one for one in [*trained, weight, bias] if one.requires_grad]
    outputs, gradients = [], []
    for way in (plainly, composed_linear):
        out = way(x, weight, bias, pairs)
        outputs.append(out)
        gradients.append(torch.autograd.grad(torch.tanh(out / 20).square().sum(), trained))
    torch.testing.assert_close(outputs[1], outputs[0], atol=1e-11, rtol=1e-12)
    for mine, expected in zip(gradients[1], gradients[0], strict=True):
        torch.testing.assert_close(mine, expected, atol=1e-11, rtol=1e-10)


def test_one_token_needs_no_dimension_of_its_own() -> None:
    x, weight, pairs = drawn(IN), drawn(OUT, IN, seed=2), old_and_new()
    expected = composed_linear(x[None], weight, None, pairs)[0]
    torch.testing.assert_close(composed_linear(x, weight, None, pairs), expected)


@pytest.mark.parametrize("tokens", [FEW, MANY])
def test_gradients_of_down_with_a_scale_for_each_rank(tokens: int) -> None:
    """No method trains such a pair; what `Pair` says holds for it all the same."""
    scale, down = drawn(4, seed=5), drawn(4, IN, seed=6).requires_grad_()
    pair = Pair(SLICES[0], drawn(6, 4, seed=7), scale, down)
    x, weight, bias = drawn(tokens, IN, seed=1), drawn(OUT, IN, seed=2), drawn(OUT, seed=3)
    found = [
        torch.autograd.grad(torch.tanh(way(x, weight, bias, [pair]) / 20).sum(), [down])[0]
        for way in (plainly, composed_linear)
    ]
    torch.testing.assert_close(found[1], found[0], atol=1e-11, rtol=1e-10)


@pytest.mark.parametrize(("tokens", "dense"), [(FEW, False), (MANY, True)])
def test_the_way_with_fewer_multiplications_is_taken(
    tokens: int, dense: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = []
    original: Callable[..., list[Tensor | None]] = composed._from_rows

    def counting(by_rows: Tensor, pair: Pair, wanted: object) -> list[Tensor | None]:
        taken.append(pair.rows)
        return original(by_rows, pair, wanted)

    monkeypatch.setattr(composed, "_from_rows", counting)
    composed_linear(drawn(tokens, IN), drawn(OUT, IN), None, old_and_new()).sum().backward()
    assert bool(taken) == dense


def test_inputs_are_not_kept_where_down_is_fixed() -> None:
    """InfLoRA's pairs: what is kept of n tokens is a number for each rank."""
    x, rank = drawn(MANY, IN).requires_grad_(), 2
    up = drawn(6, rank, seed=1).requires_grad_()
    pair = Pair(SLICES[0], up, torch.ones((), dtype=torch.float64), drawn(rank, IN, seed=2))
    kept: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        composed_linear(x, drawn(OUT, IN), None, [pair])
    assert max(one.numel() for one in kept) == MANY * rank


def layer_with_old_pairs() -> LowRankLinear:
    torch.manual_seed(0)
    layer = LowRankLinear(nn.Linear(IN, OUT), {"a": SLICES[0], "b": SLICES[1]})
    for task in range(2):
        for name, one in layer.add_branch(3).items():
            nn.init.normal_(one.up)
            nn.init.normal_(one.down)
            layer.stack(name, torch.tensor(2.0), torch.tensor(2.0), task + 1)
    return layer


def test_without_gradients_the_weight_is_composed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = layer_with_old_pairs(), drawn(4, IN).float()
    composed_anew = []
    original = branch.compose

    def counting(weight: Tensor, pairs: list[Pair]) -> Tensor:
        composed_anew.append(len(pairs))
        return original(weight, pairs)

    monkeypatch.setattr(branch, "compose", counting)
    with torch.no_grad():
        assert torch.equal(layer(x), layer(x))
    assert len(composed_anew) == 1


@pytest.mark.parametrize("what", ["alpha", "weight", "step", "branch", "loaded"])
def test_a_kept_weight_is_let_go_when_something_changes(what: str) -> None:
    layer, x = layer_with_old_pairs(), drawn(4, IN).float()
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
    layer, x = layer_with_old_pairs(), drawn(MANY, IN).float()
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
    found = alpha.grad
    assert found is not None and found.dtype == torch.float32
    (expected,) = torch.autograd.grad(exact.square().sum(), [alpha])
    torch.testing.assert_close(found, expected, rtol=0.03, atol=0.03 * float(expected.abs().max()))
