import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.trainables.draws import normal, seeded
from trainables.low_rank.branch import LowRankBranch, LowRankLinear

WIDTH = 12
QKV = {"q": slice(0, 12), "k": slice(12, 24), "v": slice(24, 36)}


def make_layer(names: tuple[str, ...] = ("k", "v")) -> LowRankLinear:
    torch.manual_seed(0)
    base = nn.Linear(WIDTH, 3 * WIDTH).double()
    return LowRankLinear(base, {name: QKV[name] for name in names})


def fill(branches: dict[str, LowRankBranch], seed: int) -> None:
    generator = seeded(seed)
    with torch.no_grad():
        for branch in branches.values():
            for tensor in (branch.up, branch.down):
                tensor.copy_(normal(*tensor.shape, seed=generator))
            branch.magnitude.fill_(0.8)


def make_old(layer: LowRankLinear) -> None:
    """Makes the open pairs old, each with a magnitude of its own."""
    for name in list(layer.branches):
        pair = layer.branch_of(name)
        norm = torch.linalg.matrix_norm(pair.up @ pair.down).detach()
        layer.stack(name, norm, norm, task=1)


def inputs() -> Tensor:
    return normal(7, WIDTH, seed=9)


@pytest.mark.parametrize("rank", [0, 3])
def test_a_new_branch_changes_nothing_nor_does_one_of_rank_zero_when_merged(rank: int) -> None:
    layer = make_layer()
    before = layer(inputs())
    for branch in layer.add_branch(rank).values():
        nn.init.normal_(branch.down)
    assert torch.equal(layer(inputs()), before)
    layer.merge()
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


def test_stacked_pairs_are_unit_directions_whose_sum_is_in_the_weight() -> None:
    layer = make_layer(("q", "v"))
    expected = layer.base.weight.detach().clone()
    for seed in range(4):
        branches = layer.add_branch(2 + seed)
        fill(branches, seed)
        for name, branch in branches.items():
            expected[QKV[name]] += branch.delta().detach()
        output = nn.functional.linear(inputs(), expected, layer.base.bias)
        torch.testing.assert_close(layer(inputs()), output, atol=1e-12, rtol=0)
        make_old(layer)
        torch.testing.assert_close(layer(inputs()), output, atol=1e-12, rtol=0)
    for name in ("q", "v"):
        stack = layer.stack_of(name)
        for k in range(4):
            mine = stack.owner == k
            length = torch.linalg.matrix_norm(stack.up[:, mine] @ stack.down[mine])
            assert float(length) == pytest.approx(1.0, abs=1e-12)


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


def test_changes_carry_over_to_a_fresh_layer() -> None:
    trained = make_layer(("k", "v"))
    fill(trained.add_branch(3), seed=1)
    trained.merge()
    fill(trained.add_branch(2), seed=2)
    make_old(trained)
    fresh = make_layer(("k", "v"))
    fresh.load_changes(trained.changes())
    assert torch.equal(fresh(inputs()), trained(inputs()))


def test_bad_calls_are_refused() -> None:
    layer = make_layer()
    with pytest.raises(ValueError, match="rank must be in"):
        layer.add_branch(WIDTH + 1)
    layer.add_branch(1)
    with pytest.raises(ValueError, match="open already"):
        layer.add_branch(1)


def test_ranks_may_be_of_each_slice_and_more_than_there_are_inputs() -> None:
    layer = make_layer(("q", "v"))
    opened = layer.add_branch({"q": WIDTH + 3, "v": 0})
    assert {name: branch.down.shape[0] for name, branch in opened.items()} == {
        "q": WIDTH + 3,
        "v": 0,
    }
    fill(opened, seed=1)
    expected = functional.linear(inputs(), layer.weight + layer.delta(), layer.base.bias)
    torch.testing.assert_close(layer(inputs()), expected)


def test_closed_leaves_open_branches_out_and_stacks_in_whatever_was_kept() -> None:
    layer = make_layer(("k", "v"))
    make_old(layer)
    with torch.no_grad():
        old = layer(inputs())
        fill(layer.add_branch(2), seed=3)
        whole = layer(inputs())
        with layer.closed():
            assert torch.equal(layer(inputs()), old)
        assert torch.equal(layer(inputs()), whole) and not torch.allclose(whole, old)
    with layer.closed():
        torch.testing.assert_close(layer(inputs()), old)


def test_rewritten_rows_are_in_no_checkpoint() -> None:
    layer = make_layer(("k", "v"))
    rows = layer.weight[QKV["k"]].detach() + 1
    before = layer.weight.detach().clone()
    layer.rewrite({"k": rows})
    assert torch.equal(layer.weight[QKV["k"]], rows)
    assert torch.equal(layer.weight[QKV["v"]], before[QKV["v"]])
    assert layer.changes()["rows"] == {}
