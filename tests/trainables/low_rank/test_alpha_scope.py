from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from tests.trainables.draws import normal, seeded
from trainables.low_rank.alpha_scope import AlphaScope, alpha_scopes
from trainables.low_rank.branch import LowRankLinear

SCOPES = ("global", "layer", "branch")
NORMALISERS = ("frobenius", "factor_norms")
WIDTHS = (8, 12)
Layers = dict[str, LowRankLinear]


def make_layers(slices: Sequence[str] = ("q", "v")) -> Layers:
    """Two layers of different widths, with q, v or both of a fused qkv."""
    torch.manual_seed(0)
    layers = {}
    for width in WIDTHS:
        rows = {"q": slice(0, width), "v": slice(2 * width, 3 * width)}
        base = nn.Linear(width, 3 * width).double()
        layers[f"layer_{width}"] = LowRankLinear(base, {name: rows[name] for name in slices})
    return layers


def open_pairs(layers: Layers, seed: int, rank: int = 2) -> None:
    generator = seeded(seed)
    for layer in layers.values():
        for branch in layer.add_branch(rank).values():
            with torch.no_grad():
                for tensor in (branch.up, branch.down):
                    tensor.copy_(normal(*tensor.shape, seed=generator))


def train(scopes: Sequence[AlphaScope], reset: bool, seed: int) -> None:
    """Moves every parameter that a scope gives, as an optimiser would."""
    generator = seeded(100 + seed)
    for scope in scopes:
        for parameter in scope.open(0.8, reset):
            with torch.no_grad():
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.3)


def close(
    scopes: Sequence[AlphaScope],
    task: int,
    normaliser: str = "frobenius",
    tau: float | None = None,
) -> None:
    for scope in scopes:
        scope.close(task, normaliser, tau)


def with_old_pairs(scope: str, tasks: int = 3) -> tuple[Layers, list[AlphaScope]]:
    """Layers after `tasks` tasks, with the pairs of another one open."""
    layers = make_layers()
    scopes = alpha_scopes(layers, scope)
    for task in range(1, tasks + 1):
        open_pairs(layers, task)
        train(scopes, reset=False, seed=task)
        close(scopes, task)
    open_pairs(layers, tasks + 1)
    return layers, scopes


def deltas(layers: Layers) -> Tensor:
    return torch.cat([layer.delta().detach().flatten() for layer in layers.values()])


@pytest.mark.parametrize("normaliser", NORMALISERS)
@pytest.mark.parametrize("scope", SCOPES)
def test_the_function_does_not_jump_at_a_task_boundary(scope: str, normaliser: str) -> None:
    layers = make_layers()
    scopes = alpha_scopes(layers, scope)
    for task in range(1, 5):
        old = deltas(layers)
        open_pairs(layers, task)
        for layer in layers.values():
            for name in layer.slices:
                nn.init.zeros_(layer.branch_of(name).up)
        for tied in scopes:
            tied.open(0.8, reset=False)
        torch.testing.assert_close(deltas(layers), old, atol=1e-12, rtol=0)
        for layer in layers.values():
            layer.branches.clear()

        open_pairs(layers, task)
        train(scopes, reset=False, seed=task)
        before = deltas(layers)
        close(scopes, task, normaliser)
        torch.testing.assert_close(deltas(layers), before, atol=1e-12, rtol=0)


@pytest.mark.parametrize(("scope", "expected"), [("global", 1), ("layer", 2), ("branch", 4)])
def test_slices_of_a_scope_have_one_parameter(scope: str, expected: int) -> None:
    layers, scopes = with_old_pairs(scope, tasks=2)
    assert len(scopes) == expected
    opened = [parameter for tied in scopes for parameter in tied.open(0.8, reset=False)]
    assert len(opened) == len({id(alpha) for alpha in opened}) == 2 * expected
    stacks = [layer.stack_of(name) for layer in layers.values() for name in layer.slices]
    pairs = [layer.branch_of(name) for layer in layers.values() for name in layer.slices]
    held = {id(stack.alpha) for stack in stacks} | {id(pair.magnitude) for pair in pairs}
    assert held == {id(alpha) for alpha in opened}
    for tied in scopes:
        for stack in tied.stacks:
            assert torch.equal(stack.alpha, tied.stacks[0].alpha)


@pytest.mark.parametrize("scope", SCOPES)
def test_shares_are_norms_relative_to_their_root_mean_square(scope: str) -> None:
    _, scopes = with_old_pairs(scope, tasks=0)
    for tied in scopes:
        mine = torch.stack([torch.linalg.matrix_norm(pair.delta()).detach() for pair in tied.pairs])
        tied.open(0.8, reset=False)
        tied.close(1, "frobenius", tau=None)
        shares = torch.cat([stack.share for stack in tied.stacks])
        scale = mine.square().mean().sqrt()
        torch.testing.assert_close(shares, mine / scale)
        assert float(tied.stacks[0].alpha.detach()) == pytest.approx(0.8 * float(scale))
        if scope == "branch":
            assert shares.tolist() == [1.0]


@pytest.mark.parametrize("normaliser", NORMALISERS)
@pytest.mark.parametrize("scope", SCOPES)
def test_a_reset_sets_every_magnitude_back_and_the_function_jumps(
    scope: str, normaliser: str
) -> None:
    layers = make_layers(("v",))
    scopes = alpha_scopes(layers, scope)
    expected = {name: torch.zeros_like(layer.weight) for name, layer in layers.items()}
    for task in (1, 2, 3):
        open_pairs(layers, task)
        train(scopes, reset=True, seed=task)
        for name, layer in layers.items():
            up, down = layer.branch_of("v").up.detach(), layer.branch_of("v").down.detach()
            norm = torch.linalg.matrix_norm(up @ down)
            if normaliser == "factor_norms":
                norm = torch.linalg.matrix_norm(up) * torch.linalg.matrix_norm(down)
            expected[name][layer.slices["v"]] += 0.8 * up @ down / norm
        close(scopes, task, normaliser)
    before = deltas(layers)
    open_pairs(layers, 4)
    for layer in layers.values():
        nn.init.zeros_(layer.branch_of("v").up)
    for tied in scopes:
        assert all(bool((alpha == 0.8).all()) for alpha in tied.open(0.8, reset=True))
    after = torch.cat([expected[name].flatten() for name in layers])
    torch.testing.assert_close(deltas(layers), after, atol=1e-7, rtol=0)
    assert float((after - before).abs().max()) > 0.1


@pytest.mark.parametrize("tau", [None, 0.5])
@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("everywhere", [True, False])
def test_pairs_of_zeros_do_no_harm(scope: str, everywhere: bool, tau: float | None) -> None:
    layers = make_layers()
    scopes = alpha_scopes(layers, scope)
    for task in range(1, 4):
        open_pairs(layers, task)
        for layer in list(layers.values())[: 2 if everywhere else 1]:
            nn.init.zeros_(layer.branch_of("q").up)
            if everywhere:
                nn.init.zeros_(layer.branch_of("v").up)
        train(scopes, reset=False, seed=task)
        before = deltas(layers)
        close(scopes, task, tau=tau)
        assert bool(torch.isfinite(deltas(layers)).all())
        torch.testing.assert_close(deltas(layers), before, atol=1e-12, rtol=0)
        if everywhere:
            kept = 1 if tau else task
            assert [len(stack) for tied in scopes for stack in tied.stacks] == [kept] * 4
