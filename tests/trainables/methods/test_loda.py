"""LoDA: golden numbers, designs by numpy, merging, its steps, what is remembered twice."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.trainables.draws import normal, seeded
from tests.trainables.trials import results_of, tiny, trained
from trainables.config import TrialConfig
from trainables.low_rank.moments import second_moments
from trainables.methods.loda import directions, gao
from trainables.methods.loda.method import LoDA
from trainables.trainer import SequentialTrainer

OLD = torch.tensor([[2.0, 1.0], [1.0, 2.0]]).double()
NEW = torch.diag(torch.tensor([3.0, 1.0])).double()


def method_of(trainer: SequentialTrainer) -> LoDA:
    assert isinstance(trainer._method, LoDA)
    return trainer._method


def moment(width: int, seed: int, tokens: int = 40) -> Tensor:
    rows = normal(tokens, width, seed=seed) @ normal(width, width, seed=seed + 100)
    return rows.T @ rows / tokens


def test_golden_general_direction_and_its_eta() -> None:
    row = directions.general(NEW, OLD, 1)
    down = (row / 3**0.5)[0]
    assert (down * down[0].sign()).tolist() == pytest.approx([0.533402, 0.220942], abs=1e-6)
    for scale in (1.0, 3**-0.5):
        found = directions.etas(scale * row, NEW, OLD, 3.0)
        assert float(found) == pytest.approx(0.25, abs=1e-6)
    up = torch.tensor([[8.0], [4.0]]).double()
    assert directions.suited(up, row, NEW, OLD, 3.0, "diagonal").flatten().tolist() == [6.0, 3.0]


def test_isolated_directions_are_those_of_the_largest_share_of_new_over_old() -> None:
    old, new = moment(6, 1), moment(6, 2)
    rows = directions.isolated(new, old, 3)
    torch.testing.assert_close(rows @ rows.T, torch.eye(3).double())
    values, vectors = np.linalg.eig(np.linalg.solve(old.numpy(), new.numpy()))
    strongest = vectors[:, np.argsort(values.real)[::-1][:3]].real
    basis = np.linalg.qr(strongest)[0]
    np.testing.assert_allclose(basis @ basis.T, (rows.T @ rows).numpy(), atol=1e-8)
    # The first one is the best of all.
    best = float((rows[0] @ new @ rows[0]) / (rows[0] @ old @ rows[0]))
    assert best == pytest.approx(values.real.max())


@pytest.mark.parametrize("rank", [0, 2])
def test_old_moments_without_full_rank_are_factored_with_jitter(rank: int) -> None:
    rows = normal(rank, 5)
    old = rows.T @ rows
    lower = directions.factored(old)
    assert float((lower @ lower.T - old).abs().max()) < 1e-6
    isolated = directions.isolated(moment(5, 3), old, 3)
    # What no old task has comes first.
    assert float((isolated @ old @ isolated.T).abs().max()) < 1e-6
    with pytest.raises(ArithmeticError, match="second moments must be finite"):
        directions.factored(old * float("nan"))


def test_least_squares_is_the_minimum_and_the_diagonal_one_of_a_diagonal_problem() -> None:
    old, new, rows = moment(6, 1), moment(6, 2), directions.general(moment(6, 1), moment(6, 2), 3)
    up = normal(4, 3)

    def cost(merged: Tensor) -> float:
        change, lost = merged @ rows, (merged - up) @ rows
        of_old, of_new = change @ old @ change.T, lost @ new @ lost.T
        return float(of_old.trace() + 3 * of_new.trace())

    best = directions.suited(up, rows, new, old, 3.0, "least_squares")
    diagonal = directions.suited(up, rows, new, old, 3.0, "diagonal")
    assert cost(best) < cost(diagonal) < cost(up)
    for seed in range(5):
        assert cost(best) < cost(best + 1e-3 * normal(4, 3, seed=seed))
    axes = torch.eye(6).double()[:3]
    first, other = (torch.diag(torch.rand(6, generator=seeded(seed)).double()) for seed in (1, 2))
    torch.testing.assert_close(
        directions.suited(up, axes, first, other, 3.0, "least_squares"),
        directions.suited(up, axes, first, other, 3.0, "diagonal"),
    )
    nothing = torch.zeros(6, 6).double()
    for merge in ("diagonal", "least_squares"):
        suited = directions.suited(up, rows, nothing, nothing, 3.0, merge)
        assert torch.isfinite(suited).all()


def test_halves_part_the_classes_and_never_one_class() -> None:
    labels = torch.tensor([3, 4, 5, 3, 4, 5, 7, 7])
    first, other = gao.halves(labels, seeded()) or (None, None)
    assert first is not None and other is not None
    assert bool((first ^ other).all())
    assert not set(labels[first].tolist()) & set(labels[other].tolist())
    assert len(set(labels[first].tolist())) == len(set(labels[other].tolist())) == 2
    assert gao.halves(torch.tensor([2, 2, 2]), seeded()) is None
    drawn = {tuple(gao.halves(labels, seeded(seed))[0].tolist()) for seed in range(9)}  # type: ignore[index]
    assert len(drawn) > 1


class Quadratic:
    """A loss |w − target|² / 2 a class, with the gradients that `Backward` gives."""

    def __init__(self, weight: nn.Parameter, targets: Tensor, labels: Tensor) -> None:
        self.weight, self.targets, self.labels = weight, targets, labels
        self.seen: list[Tensor] = []

    def __call__(self, places: Tensor | None = None) -> Tensor:
        labels = self.labels if places is None else self.labels[places]
        self.seen.append(self.weight.detach().clone())
        apart = self.weight.detach() - self.targets[labels]
        self.weight.grad = apart.mean(0)
        return apart.square().sum((1, 2)).mean() / 2


def test_two_steps_a_batch_each_from_where_the_other_half_leads() -> None:
    start = normal(2, 3)
    weight = nn.Parameter(start.clone())
    targets, labels = normal(2, 2, 3, seed=1), torch.tensor([0, 0, 0, 1])
    batch = Quadratic(weight, targets, labels)
    optimizer = torch.optim.SGD([weight], lr=0.1)
    parts = [gao.Part(weight, slice(0, 2)), gao.Part(weight, slice(2, None))]
    with torch.no_grad():
        loss = gao.paired_steps(optimizer, batch, parts, 0.5, seeded(3))
    # By hand, with the same draws: which class leads, then a share for each part.
    draws = seeded(3)
    leads = torch.randperm(2, generator=draws)[0]
    now, losses = start.clone(), {}
    for lead in (int(leads), 1 - int(leads)):
        gradient = now - targets[lead]
        way = torch.zeros_like(now)
        shares = torch.rand(2, generator=draws)
        for columns, share in zip((slice(0, 2), slice(2, 3)), shares.tolist(), strict=True):
            part = gradient[:, columns]
            way[:, columns] = -0.5 * share * part / part.norm()
        other = 1 - lead
        losses[other] = float((now + way - targets[other]).square().sum() / 2)
        now = now - 0.1 * (now + way - targets[other])
    torch.testing.assert_close(weight.detach(), now)
    assert float(loss) == pytest.approx((3 * losses[0] + losses[1]) / 4)
    assert len(batch.seen) == 4


def test_a_single_class_or_no_gradient_moves_nothing() -> None:
    weight = nn.Parameter(torch.zeros(2, 3).double())
    batch = Quadratic(weight, torch.zeros(2, 2, 3).double(), torch.tensor([1, 1]))
    with torch.no_grad():
        gao.paired_steps(torch.optim.SGD([weight], lr=0.1), batch, [], 0.5, seeded())
    assert len(batch.seen) == 1
    weight.grad = torch.zeros(2, 3).double()
    assert not gao.Part(weight, slice(0, 2)).move(1.0).any()
    weight.grad = None
    assert not gao.Part(weight, slice(0, 2)).move(1.0).any()


def test_the_weight_moves_by_both_branches_the_general_one_weighted() -> None:
    trainer = trained("loda", {"method.rank": 3}, 1)
    method, model = method_of(trainer), trainer._model
    layer = model.layers["layer_01"]
    assert list(layer.slices) == ["qkv"] and layer.weight.shape == (48, 16)
    task = trainer._stream[1]
    train = trainer._batches(task.train)
    before = layer.weight.detach().clone()
    groups, _ = method.begin_task(model, task, train)
    branch = layer.branch_of("qkv")
    up, down = normal(48, 6).float(), branch.down.detach().clone()
    with torch.no_grad():
        branch.up.copy_(up)
    new, old = method._new["layer_01"], method._old["layer_01"]
    general, isolated = down[:3].double(), down[3:].double()
    torch.testing.assert_close(general @ general.T, torch.eye(3).double() / 3, atol=1e-5, rtol=0)
    torch.testing.assert_close(isolated @ isolated.T, torch.eye(3).double() / 3, atol=1e-5, rtol=0)
    assert any(parameter is branch.up for parameter in groups[0].parameters)
    assert not any(parameter is branch.down for parameter in groups[0].parameters)
    # As the network has it in training, neither is weighted yet.
    expected = 0.25 * up[:, :3] @ down[:3] + 0.5 * up[:, 3:] @ down[3:]
    torch.testing.assert_close(layer.delta().detach(), expected)
    recorded = method.end_task(model, task, train)
    energies = [np.diag(general.numpy() @ of.numpy() @ general.numpy().T) for of in (old, new)]
    eta = energies[0] / (energies[0] + 3 * energies[1])
    assert recorded["subspace/eta/layer_01"] == pytest.approx(eta.mean(), rel=1e-5)
    kept = up[:, :3].numpy() * (1 - eta)
    merged = 0.25 * kept @ down[:3].numpy() + 0.5 * up[:, 3:].numpy() @ down[3:].numpy()
    np.testing.assert_allclose((layer.weight - before).detach().numpy(), merged, atol=1e-5)


def test_the_first_task_has_one_branch_trains_down_and_adds_it_whole() -> None:
    trainer = SequentialTrainer(tiny("loda", {"method.rank": 3}))
    method, model, task = method_of(trainer), trainer._model, trainer._stream[0]
    train = trainer._batches(task.train)
    groups, recorded = method.begin_task(model, task, train)
    layer = model.layers["layer_00"]
    branch, before = layer.branch_of("qkv"), layer.weight.detach().clone()
    assert any(parameter is branch.down for parameter in groups[0].parameters)
    new = method._new["layer_00"]
    _, vectors = np.linalg.eigh(new.numpy())
    cosines = np.abs(branch.down.detach().numpy() @ vectors[:, ::-1][:, :3]) * 3**0.5
    np.testing.assert_allclose(cosines, np.eye(3), atol=1e-4)
    assert not any("isolated" in name or "old_energy" in name for name in recorded)
    with torch.no_grad():
        branch.up.copy_(normal(48, 3))
        added = 0.25 * branch.up @ branch.down
    method.end_task(model, task, train)
    torch.testing.assert_close(layer.weight - before, added, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("passes", ["after", "twice"])
def test_each_task_is_added_once_or_from_before_and_after_its_merge(passes: str) -> None:
    trainer = SequentialTrainer(tiny("loda", {"method.moment_passes": passes, "method.rank": 3}))
    method, model = method_of(trainer), trainer._model
    total = torch.zeros(16, 16).double()
    for task in list(trainer._stream)[:2]:
        images = list(trainer._batches(task.train).plain())

        def seen(images: list[Tensor] = images) -> Tensor:
            return second_moments(model.in_float32, model.layers, images)["layer_01"]

        before = seen()
        trainer.train_task()
        total += seen() + (before if passes == "twice" else 0)
        torch.testing.assert_close(method._old["layer_01"], total)


def test_memory_does_not_grow_and_a_pass_composes_one_pair() -> None:
    trainer = SequentialTrainer(tiny("loda", {"method.rank": 3, "data.tasks": 6}))
    sizes = []
    for task in trainer._stream:
        train = trainer._batches(task.train)
        trainer._method.begin_task(trainer._model, task, train)
        assert all(len(layer._pairs()) == 1 for layer in trainer._model.layers.values())
        metrics = trainer._method.end_task(trainer._model, task, train)
        sizes.append((metrics["memory/subspace_bytes"], metrics["memory/branch_bytes"]))
    # Two layers: a moment of 16 inputs in float64; 2 · 3 ranks, their scales and factors.
    assert sizes[1:] == [(2 * 8 * 16 * 16, 2 * 4 * (6 * (16 + 48) + 6))] * 5


def test_steps_of_training_are_paired_unless_rho_is_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[float] = []
    original = gao.paired_steps

    def watched(*arguments: Any) -> Tensor:
        calls.append(arguments[3])
        return original(*arguments)

    monkeypatch.setattr("trainables.methods.loda.method.paired_steps", watched)
    plain = results_of("loda", {"method.rho": 0.0, "method.rank": 3}, 2)
    assert calls == []
    paired = results_of("loda", {"method.rho": 0.05, "method.rank": 3}, 2)
    assert set(calls) == {0.05}
    assert plain[1].metrics["train/loss"] != paired[1].metrics["train/loss"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method.rank": 161}, r"method.rank must be in \[1, 160\], but got 161"),
        ({"method.rho": -0.1}, "method.rho must be a finite number of at least 0"),
        ({"method.general_scale": 0.0}, "method.general_scale must be a finite number above 0"),
        ({"method.new_weight": 0.0}, "method.new_weight must be a finite number above 0"),
        ({"method.merge": "sum"}, "method.merge must be one of"),
        ({"method.moment_passes": "before"}, "method.moment_passes must be one of"),
        ({"method.head_margin": 2.0}, r"method.head_margin must be in \[0, 1\]"),
    ],
)
def test_bad_fields_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrialConfig.from_params({"method.name": "loda", **changes})


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("imagenet_r", (64, 0.7, 0.1, 0.02, 0.0)), ("imagenet_a", (32, 0.3, 0.15, 0.01, 5e-4)),
        ("cifar100", (32, 0.3, 0.0, 0.005, 5e-4)),
    ],
)  # fmt: skip
def test_recipes(data: str, expected: tuple[float, ...]) -> None:
    filled = TrialConfig.from_params(
        {"method.name": "loda", "recipe": f"loda/{data}", "preset": "released"}
    ).to_params()
    keys = ("method.rank", "method.rho", "method.head_margin", "optim.lr", "optim.weight_decay")
    assert tuple(filled[key] for key in keys) == expected
    assert (filled["method.head"], filled["method.head_scale"]) == ("cosface", 20.0)
    assert filled["method.moment_passes"] == "twice"


def test_directions_that_no_task_has_are_in_no_design_of_isolated_ones() -> None:
    """As the mean over channels behind a layer normalisation, which is 0 up to rounding."""
    nothing = torch.ones(6).double() / 6**0.5
    within = torch.eye(6).double() - torch.outer(nothing, nothing)
    noise = 1e-15 * moment(6, 7)
    old, new = (within @ moment(6, seed) @ within + noise for seed in (1, 2))
    rows = directions.isolated(new, old, 6)
    assert rows.shape == (5, 6)
    assert float((rows @ nothing).abs().max()) < 1e-6
    assert directions.isolated(0 * new, 0 * old, 6).shape == (0, 6)
