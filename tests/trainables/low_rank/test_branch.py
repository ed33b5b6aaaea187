import pytest
import torch
from torch import Tensor, nn

from trainables.low_rank.branch import LowRankBranch, LowRankLinear

WIDTH = 12
QKV = {"q": slice(0, 12), "k": slice(12, 24), "v": slice(24, 36)}


def make_layer(names: tuple[str, ...] = ("k", "v")) -> LowRankLinear:
    torch.manual_seed(0)
    base = nn.Linear(WIDTH, 3 * WIDTH).double()
    return LowRankLinear(base, {name: QKV[name] for name in names})


def fill(branches: dict[str, LowRankBranch], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for branch in branches.values():
            for tensor in (branch.up, branch.down):
                tensor.copy_(torch.randn(tensor.shape, generator=generator, dtype=torch.float64))
            branch.magnitude.fill_(0.8)


def make_old(layer: LowRankLinear) -> None:
    """Makes the open pairs old, each with a magnitude of its own."""
    for name in list(layer.branches):
        pair = layer.branch_of(name)
        norm = torch.linalg.matrix_norm(pair.up @ pair.down).detach()
        layer.stack(name, norm, norm, task=1)


def inputs(count: int = 7) -> Tensor:
    return torch.randn(
        count, WIDTH, generator=torch.Generator().manual_seed(9), dtype=torch.float64
    )


def test_a_new_branch_changes_nothing() -> None:
    layer = make_layer()
    before = layer(inputs())
    for branch in layer.add_branch(3).values():
        nn.init.normal_(branch.down)
    assert torch.equal(layer(inputs()), before)


def test_branches_touch_only_their_slices() -> None:
    layer = make_layer(("k",))
    before = layer(inputs())
    fill(layer.add_branch(3), seed=1)
    moved = (layer(inputs()) - before).abs().amax(0) > 0
    assert moved.nonzero().flatten().tolist() == list(range(12, 24))


def test_merging_changes_no_output() -> None:
    layer = make_layer()
    fill(layer.add_branch(3), seed=1)
    before = layer(inputs())
    layer.merge()
    torch.testing.assert_close(layer(inputs()), before, atol=1e-12, rtol=0)
    assert not len(layer.branches)


def test_stacking_changes_no_output_and_leaves_unit_directions() -> None:
    layer = make_layer(("q", "v"))
    for seed in range(3):
        fill(layer.add_branch(2 + seed), seed)
        before = layer(inputs())
        make_old(layer)
        torch.testing.assert_close(layer(inputs()), before, atol=1e-12, rtol=0)
    for name in ("q", "v"):
        stack = layer.stack_of(name)
        for k in range(3):
            mine = stack.owner == k
            norm = torch.linalg.matrix_norm(stack.up[:, mine] @ stack.down[mine])
            assert float(norm) == pytest.approx(1.0, abs=1e-12)


def test_composed_weight_equals_the_sum_of_its_parts() -> None:
    layer = make_layer(("q", "v"))
    parts = []
    for seed in range(4):
        branches = layer.add_branch(2)
        fill(branches, seed)
        parts.append({name: branch.delta().detach().clone() for name, branch in branches.items()})
        if seed < 3:
            make_old(layer)
    expected = layer.base.weight.detach().clone()
    for part in parts:
        for name, delta in part.items():
            expected[QKV[name]] += delta
    output = nn.functional.linear(inputs(), expected, layer.base.bias)
    torch.testing.assert_close(layer(inputs()), output, atol=1e-12, rtol=0)


def test_old_magnitudes_scale_their_own_direction_and_get_gradients() -> None:
    layer = make_layer(("q",))
    for seed in range(2):
        fill(layer.add_branch(2), seed)
        make_old(layer)
    stack = layer.stack_of("q")
    unit = stack.up[:, :2] @ stack.down[:2]
    before = layer(inputs())
    with torch.no_grad():
        stack.alpha[0] += 0.5
    shift = layer(inputs()) - before
    torch.testing.assert_close(shift[:, QKV["q"]], 0.5 * inputs() @ unit.T, atol=1e-12, rtol=0)
    layer(inputs()).sum().backward()
    expected = (inputs() @ unit.T).sum()
    assert stack.alpha.grad is not None
    torch.testing.assert_close(stack.alpha.grad[0], expected)


def test_training_up_equals_training_the_weight_inside_span_down() -> None:
    """Proposition 1: for fixed orthonormal rows B, W ← W − lr · (∂L/∂W) Bᵀ B."""
    torch.manual_seed(3)
    rank, lr = 4, 0.05
    down, _ = torch.linalg.qr(torch.randn(WIDTH, rank, dtype=torch.float64))
    rows = down.T.contiguous()
    x, target = inputs(32), torch.randn(32, WIDTH, dtype=torch.float64)
    layer = LowRankLinear(nn.Linear(WIDTH, WIDTH).double(), {"k": slice(0, WIDTH)})
    initial = layer.base.weight.detach().clone()
    weight = initial.clone().requires_grad_(True)
    branch = layer.add_branch(rank)["k"]
    with torch.no_grad():
        branch.down.copy_(rows)
    optimizer = torch.optim.SGD([branch.up], lr=lr)
    for _ in range(25):
        optimizer.zero_grad()
        torch.tanh(layer(x)).sub(target).square().mean().backward()
        optimizer.step()
        outputs = torch.tanh(nn.functional.linear(x, weight, layer.base.bias))
        loss = outputs.sub(target).square().mean()
        (gradient,) = torch.autograd.grad(loss, weight)
        with torch.no_grad():
            weight -= lr * gradient @ rows.T @ rows
    layer.merge()
    assert float((weight.detach() - initial).abs().max()) > 1e-3
    torch.testing.assert_close(layer.base.weight, weight, atol=1e-10, rtol=0)


def test_rank_zero_is_a_branch_that_does_nothing() -> None:
    layer = make_layer()
    before = layer(inputs())
    layer.add_branch(0)
    assert torch.equal(layer(inputs()), before)
    layer.merge()
    assert torch.equal(layer(inputs()), before)


def test_changes_carry_over_to_a_fresh_layer() -> None:
    trained = make_layer(("k", "v"))
    fill(trained.add_branch(3), seed=1)
    trained.merge()
    fill(trained.add_branch(2), seed=2)
    make_old(trained)
    fresh = make_layer(("k", "v"))
    fresh.load_changes(trained.changes())
    assert torch.equal(fresh(inputs()), trained(inputs()))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda layer: layer.add_branch(WIDTH + 1), "rank must be in"),
        (lambda layer: (layer.add_branch(1), layer.add_branch(1)), "open already"),
        (lambda _: LowRankLinear(nn.Linear(4, 4), {"q": slice(0, 5)}), "must lie in"),
    ],
)
def test_bad_calls_are_refused(call: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(make_layer())  # type: ignore[operator]
