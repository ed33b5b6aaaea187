"""Second moments: their products, where a pass ends, and what rounding may not change."""

import typing
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn

from tests.trainables.draws import seeded
from tests.trainables.trials import tiny
from trainables.config import TrialConfig
from trainables.data.batches import to_unit
from trainables.low_rank import precision
from trainables.low_rank.branch import LowRankLinear
from trainables.low_rank.down_init import STRATEGIES
from trainables.low_rank.dual_gpm import DualGPM, Energy
from trainables.low_rank.layer_memories import LayerMemories, OnExhaustion
from trainables.low_rank.moments import TOKENS, WIDE, add_products, second_moments
from trainables.low_rank.precision import exact_products, product_type
from trainables.methods.inflora.method import InfLoRA
from trainables.trainer import SequentialTrainer

THRESHOLDS = (0.9, 0.95, 0.99, 0.999)


def correlated(count: int, width: int, seed: int) -> Tensor:
    """Rows whose strongest direction is 1e3 times its weakest, with a mean that is not 0."""
    generator = seeded(seed)
    mixing = torch.randn(width, width, generator=generator) / width**0.5
    scales = torch.logspace(0, -3, width)
    rows: Tensor = (torch.randn(count, width, generator=generator) + 1) * scales @ mixing
    return rows


def triangle(rows: Tensor, kind: torch.dtype) -> Tensor:
    total = torch.zeros(rows.shape[1], rows.shape[1], dtype=torch.float64)
    add_products(total, rows, kind)
    return total.tril()


def moment_of(rows: Tensor, kind: torch.dtype) -> Tensor:
    lower = triangle(rows, kind)
    return (lower + lower.tril(-1).T) / len(rows)


@torch.no_grad()
def inputs_of(
    model: nn.Module, layers: Mapping[str, LowRankLinear], images: Tensor
) -> dict[str, Tensor]:
    """The tokens (n, in) that enter each layer."""
    seen: dict[str, Tensor] = {}
    handles = [
        layer.register_forward_pre_hook(
            lambda _, inputs, name=name: seen.update({name: inputs[0].flatten(0, -2)})
        )
        for name, layer in layers.items()
    ]
    model(images)
    for handle in handles:
        handle.remove()
    return seen


@pytest.mark.parametrize("width", [9, WIDE + 3])
def test_products_are_those_of_float64(width: int) -> None:
    rows = correlated(TOKENS + 50, width, seed=0)
    expected = (rows.double().T @ rows.double()).tril()
    torch.testing.assert_close(triangle(rows, torch.float64), expected, rtol=1e-12, atol=1e-9)


def test_products_in_float32_stay_within_the_bound_that_is_stated() -> None:
    rows = correlated(3 * TOKENS, 40, seed=0)
    exact, rounded = triangle(rows, torch.float64), triangle(rows, torch.float32)
    size = (rows.double().abs().T @ rows.double().abs()).tril()
    error = (rounded - exact).abs() / size.clamp_min(1e-300)
    assert 0 < float(error.max()) < TOKENS * 2**-24
    assert float(error.max()) < 3e-7


@pytest.mark.parametrize("energy", ["sigma4", "sigma2"])
def test_a_memory_of_float32_products_decides_the_same_dimensions(energy: Energy) -> None:
    memories = {kind: DualGPM(40, energy) for kind in (torch.float64, torch.float32)}
    for task in range(12):
        rows = correlated(2000, 40, seed=task)
        sizes, designed = [], []
        for kind, memory in memories.items():
            moment = moment_of(rows, kind)
            designed.append(memory.design(moment, 4))
            memory.absorb(moment, THRESHOLDS[task % 4])
            sizes.append((memory.kind, memory.free_dim, len(designed[-1])))
        assert sizes[0] == sizes[1]
        cosines = torch.linalg.svdvals(designed[0] @ designed[1].T)
        torch.testing.assert_close(cosines, torch.ones_like(cosines), atol=1e-5, rtol=0)


def low_dimensional(tokens: int, dims: int, seed: int) -> Tensor:
    """Rows in `dims` of 64 dimensions, or as many as there are tokens, and not around zero."""
    generator = seeded(seed)
    if tokens <= dims:
        return torch.randn(tokens, 64, generator=generator) + 1
    # Sums of a few whole numbers: exact in float32.
    basis = torch.randint(-8, 9, (dims, 64), generator=generator).float()
    return torch.randint(-8, 9, (tokens, dims), generator=generator).float() @ basis


@pytest.mark.parametrize("policy", typing.get_args(OnExhaustion))
@pytest.mark.parametrize("strategy", ["designed", "principal", "null_space_smallest"])
@pytest.mark.parametrize("energy", ["sigma4", "sigma2"])
@pytest.mark.parametrize(("tokens", "dims"), [(6, 6), (40, 40), (5000, 12)])
def test_moments_of_low_rank_give_as_many_rows_in_float32(
    policy: OnExhaustion,
    strategy: str,
    energy: Energy,
    tokens: int,
    dims: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Rounding of float32 products is no direction; where they are taken, all of it is told."""
    rank, counted = dims + 8, []
    for kind in (torch.float64, torch.float32):
        monkeypatch.setattr(precision, "product_type", lambda _, kind=kind: kind)
        memories = LayerMemories({"layer": DualGPM(64, energy)}, rank, policy)
        counts = []
        for task in range(3):
            rows = low_dimensional(tokens, dims, seed=task)
            moment = {"layer": moment_of(rows, kind)}
            designed = memories.design(STRATEGIES[strategy], moment, {}, torch.Generator())
            memories.absorb(moment, 0.99, task + 1)
            memory = memories["layer"]
            counts.append((len(designed["layer"]), memory.kind, memory.free_dim))
        counted.append(counts)
    assert counted[0] == counted[1]
    assert counted[0][0][0] == (rank if policy == "released" else dims)


@pytest.mark.slow
@pytest.mark.parametrize("energy", ["sigma4", pytest.param("sigma2", marks=pytest.mark.nightly)])
def test_icons_give_the_same_dimensions_over_50_tasks_in_every_precision(energy: Energy) -> None:
    """The default schedule of thresholds: float32 products, and a trial in bfloat16."""
    settings = {"method.name": "inflora", "data.tasks": 50, "data.train_per_class": 2}
    trainer = SequentialTrainer(TrialConfig.from_params(settings))
    model, layers = trainer._model, trainer._model.layers
    method = trainer._method
    assert isinstance(method, InfLoRA)
    memories = {
        (kind, name): DualGPM(layer.in_features, energy)
        for kind in ("exact", "float32", "bfloat16")
        for name, layer in layers.items()
    }
    for task in range(50):
        train = trainer._batches(trainer._stream[task].train)
        images = to_unit(train.data.images)
        model.precision = "float32"
        inputs = inputs_of(model, layers, images)
        model.precision = "bfloat16"
        moments = {"bfloat16": method._moments(model, train)}
        for kind, dtype in (("exact", torch.float64), ("float32", torch.float32)):
            moments[kind] = {name: moment_of(inputs[name], dtype) for name in layers}
        for name in layers:
            decided = []
            for kind in ("exact", "float32", "bfloat16"):
                memory = memories[kind, name]
                rank = len(memory.design(moments[kind][name], 10))
                memory.absorb(moments[kind][name], method._threshold(task))
                decided.append((memory.kind, memory.free_dim, rank))
            assert decided[0] == decided[1] == decided[2]


class Chain(nn.Module):
    """Three layers of which the first is called twice, and a tail; counts what the tail sees."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = (
            LowRankLinear(nn.Linear(5, 5), {"all": slice(0, 5)}) for _ in range(2)
        )
        self.seen_by_the_tail: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(torch.tanh(self.first(x)))
        x = self.second(torch.tanh(x))
        self.seen_by_the_tail.append(len(x))
        if not bool(torch.isfinite(x).all()):
            raise ZeroDivisionError
        return x


@pytest.mark.parametrize(("calls", "seen"), [(3, []), (None, [10])])
def test_a_pass_ends_at_the_last_adapted_layer(calls: int | None, seen: list[int]) -> None:
    """Where it is not known how often layers are called, the first batch goes through to tell."""
    model = Chain()
    layers = {"first": model.first, "second": model.second}
    x = correlated(30, 5, seed=0)
    moments = second_moments(model, layers, x.split(10), calls)
    assert model.seen_by_the_tail == seen
    with torch.no_grad():
        middle = torch.tanh(model.first(x))
        last = torch.tanh(model.first(middle))
    both = torch.cat([x, middle]).double()
    torch.testing.assert_close(moments["first"], both.T @ both / 60, atol=1e-12, rtol=1e-6)
    torch.testing.assert_close(
        moments["second"], last.double().T @ last.double() / 30, atol=1e-12, rtol=1e-6
    )
    assert not model.first._forward_pre_hooks


def test_a_backbone_knows_how_often_its_layers_are_called() -> None:
    model = SequentialTrainer(tiny("inflora"))._model
    assert model.calls == len(model.layers)


def test_an_error_of_the_network_leaves_no_hook_and_no_batches_give_zeros() -> None:
    model = Chain()
    layers = {"first": model.first}
    with pytest.raises(ZeroDivisionError):
        second_moments(model, layers, [torch.full((2, 5), torch.nan)])
    assert not model.first._forward_pre_hooks
    assert not second_moments(model, layers, [])["first"].any()


def test_exact_products_are_not_rounded_by_autocast() -> None:
    rows = correlated(50, 6, seed=0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = rows.T @ rows
        total = torch.zeros(6, 6, dtype=torch.float64)
        add_products(total, rows, torch.float32)
        with exact_products(torch.device("cpu")):
            assert (rows.T @ rows).dtype == torch.float32
    assert rounded.dtype == torch.bfloat16
    torch.testing.assert_close(total.tril().float(), (rows.T @ rows).tril(), rtol=1e-6, atol=1e-6)


def test_a_cpu_takes_products_in_float64_and_a_gpu_in_float32() -> None:
    kinds = [product_type(torch.device(device)) for device in ("cpu", "cuda")]
    assert kinds == [torch.float64, torch.float32]


def test_centred_moments_are_covariances_over_all_tokens() -> None:
    layer = LowRankLinear(nn.Linear(5, 5), {"all": slice(0, 5)})
    rows = correlated(60, 5, seed=0)
    found = second_moments(layer, {"a": layer}, rows.split(25), centred=True)["a"]
    expected = torch.cov(rows.double().T, correction=0)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=1e-9)
    assert not torch.allclose(found, second_moments(layer, {"a": layer}, rows.split(25))["a"])
