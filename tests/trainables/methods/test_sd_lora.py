from typing import Any

import pytest
import torch
from torch import Tensor

from tests.trainables.draws import seeded
from tests.trainables.trials import results_of, run, tiny, trained
from trainables.config import TrialConfig, catalog
from trainables.data.batches import to_unit
from trainables.low_rank import update_watch
from trainables.methods.sd_lora import method
from trainables.trainer import SequentialTrainer

NORMALISERS = ("frobenius", "factor_norms")


class Spy:
    """Wraps a trainer's method and writes down what it is given at the boundaries of tasks."""

    def __init__(self, trainer: SequentialTrainer, monkeypatch: pytest.MonkeyPatch) -> None:
        self.trainer, self.layers = trainer, trainer._model.layers
        self.method: Any = trainer._method
        self.raw: list[dict[tuple[str, str], tuple[Tensor, Tensor]]] = []
        self.features: dict[str, list[Tensor]] = {"trained": [], "ended": [], "begun": []}
        self.alphas: list[list[torch.nn.Parameter]] = []
        self.initial: list[list[float]] = []
        begin, end = self.method.begin_task, self.method.end_task

        def begin_task(*args: Any) -> Any:
            groups, recorded = begin(*args)
            self.features["begun"].append(self.outputs())
            (alphas,) = (group.parameters for group in groups if group.role == "alpha")
            self.alphas.append(alphas)
            self.initial.append([x for alpha in alphas for x in alpha.flatten().tolist()])
            return groups, recorded

        def end_task(*args: Any) -> Any:
            pairs = {
                (name, part): layer.branch_of(part)
                for name, layer in self.layers.items()
                for part in layer.slices
            }
            self.raw.append(
                {k: (p.up.detach().double(), p.down.detach().double()) for k, p in pairs.items()}
            )
            self.features["trained"].append(self.outputs())
            recorded = end(*args)
            self.features["ended"].append(self.outputs())
            return recorded

        monkeypatch.setattr(self.method, "begin_task", begin_task)
        monkeypatch.setattr(self.method, "end_task", end_task)

    @torch.no_grad()
    def outputs(self) -> Tensor:
        features: Tensor = self.trainer._model(to_unit(self.trainer._stream[0].train.images[:16]))
        return features


def norm(up: Tensor, down: Tensor, normaliser: str) -> Tensor:
    length: Tensor = torch.linalg.matrix_norm(up @ down)
    if normaliser == "factor_norms":
        length = torch.linalg.matrix_norm(up) * torch.linalg.matrix_norm(down)
    return length


@pytest.mark.parametrize("reset", [True, False])
@pytest.mark.parametrize("normaliser", NORMALISERS)
def test_forward_is_the_hand_written_sum_over_pairs(
    normaliser: str, reset: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W0 x + Σ_{k<t} α_k (up_k down_k / norm_k) x + α_t up_t down_t x, in float64."""
    changes = {"method.normaliser": normaliser, "method.alpha_reset": reset, "method.rank": 3}
    spy = Spy(SequentialTrainer(tiny("sd_lora", changes)), monkeypatch)
    run(spy.trainer, 3)
    monkeypatch.setattr(spy.method, "end_task", lambda *_: {})
    spy.trainer.train_task()
    for name, layer in spy.layers.items():
        x = torch.randn(5, layer.in_features, generator=seeded())
        weight = layer.weight.detach().double().clone()
        for part, rows in layer.slices.items():
            alphas = layer.stack_of(part).alpha.tolist()
            assert len(alphas) == 3
            for alpha, pairs in zip(alphas, spy.raw, strict=True):
                up, down = pairs[name, part]
                weight[rows] += alpha * (up @ down) / norm(up, down, normaliser)
            branch = layer.branch_of(part)
            assert float(branch.up.detach().abs().max()) > 1e-3
            new = branch.magnitude.double() * branch.up.double() @ branch.down.double()
            weight[rows] += new.detach()
        assert layer.base.bias is not None
        expected = x.double() @ weight.T + layer.base.bias.detach().double()
        torch.testing.assert_close(layer(x).detach().double(), expected, atol=2e-6, rtol=2e-6)


@pytest.mark.parametrize("normaliser", NORMALISERS)
@pytest.mark.parametrize(("scope", "places"), [("global", 1), ("layer", 2), ("branch", 4)])
def test_the_network_does_not_jump_where_magnitudes_are_carried_over(
    scope: str, places: int, normaliser: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {"method.alpha_scope": scope, "method.normaliser": normaliser, "data.tasks": 3}
    spy = Spy(SequentialTrainer(tiny("sd_lora", changes)), monkeypatch)
    run(spy.trainer)
    trained, ended, begun = (spy.features[key] for key in ("trained", "ended", "begun"))
    for before, after in [*zip(trained, ended, strict=True), *zip(ended, begun[1:], strict=False)]:
        torch.testing.assert_close(after, before, atol=1e-5, rtol=1e-5)
    assert float((trained[1] - begun[1]).abs().max()) > 1e-2
    # Slices that share a magnitude have one parameter, of the new pair and of all old ones.
    assert [len(set(alphas)) for alphas in spy.alphas] == [places, 2 * places, 2 * places]
    stacks = [layer.stack_of(part) for layer in spy.layers.values() for part in layer.slices]
    assert len({stack.alpha for stack in stacks}) == places
    assert len({tuple(stack.alpha.tolist()) for stack in stacks}) == places


def test_every_magnitude_is_trained_and_no_old_direction() -> None:
    trainer = trained("sd_lora", {"optim.alpha_lr": 0.05}, 2)
    stacks = [layer.stack_of(p) for layer in trainer._model.layers.values() for p in layer.slices]
    before = [(s.up.clone(), s.down.clone(), s.alpha.detach().clone()) for s in stacks]
    trainer.train_task()
    for stack, (up, down, alpha) in zip(stacks, before, strict=True):
        assert torch.equal(stack.up[:, : up.shape[1]], up)
        assert torch.equal(stack.down[: down.shape[0]], down)
        assert bool((stack.alpha[:2] - alpha).abs().min() > 1e-4)


@pytest.mark.parametrize("preset", ["paper", "released"])
def test_far_more_than_twenty_tasks(preset: str) -> None:
    """The released code has 20 old magnitudes: its 22nd task fails."""
    changes = {"preset": preset, "data.classes": 26, "data.tasks": 26, "optim.epochs": 1}
    last = results_of("sd_lora", changes)[-1].metrics
    assert last["alpha/pairs_kept"] == 26
    assert [key for key in last if key.startswith("alpha/task_")] == [
        f"alpha/task_{task:02d}" for task in range(1, 27)
    ]


def test_diagnostics_cost_nothing_where_they_are_off(monkeypatch: pytest.MonkeyPatch) -> None:
    on = results_of("sd_lora")
    monkeypatch.delattr(update_watch, "second_moments")
    monkeypatch.delattr(method.direction_metrics, "similarity")
    off = results_of("sd_lora", {"diagnostics": False})
    for task, (measured, plain) in enumerate(zip(on, off, strict=True)):
        only = {key for key in measured.metrics if key not in plain.metrics}
        names = ("subspace/interference", "subspace/direction_similarity")
        assert only == {key for n in names for key in (n, f"{n}/layer_00", f"{n}/layer_01") if task}
        assert measured.accuracy_row == plain.accuracy_row
        assert all(0 <= measured.metrics[key] <= 1 for key in only)


def test_preset_released_has_the_documented_quirks(monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny("sd_lora", {"preset": "released", "data.tasks": 3})
    spy = Spy(SequentialTrainer(config), monkeypatch)
    run(spy.trainer)
    # Old pairs are divided by the product of their factors' norms.
    for (name, part), (up, down) in spy.raw[0].items():
        old = spy.layers[name].stack_of(part).up[:, :10].double()
        expected = up / norm(up, down, "factor_norms")
        torch.testing.assert_close(old, expected, atol=1e-6, rtol=1e-5)
        assert float(torch.linalg.matrix_norm(old @ down)) < 0.99
    # One magnitude a task for all layers, q and v; all are set back at each new task.
    assert [len(alphas) for alphas in spy.alphas] == [1, 2, 2]
    assert spy.initial == [pytest.approx([0.8] * task) for task in (1, 2, 3)]
    stack = spy.layers["layer_00"].stack_of("q")
    assert all(abs(alpha - 0.8) > 1e-4 for alpha in stack.alpha.tolist())
    # The function jumps there and only there.
    trained, ended, begun = (spy.features[key] for key in ("trained", "ended", "begun"))
    for before, after in zip(trained, ended, strict=True):
        torch.testing.assert_close(after, before, atol=1e-5, rtol=1e-5)
    for before, after in zip(ended, begun[1:], strict=False):
        assert float((after - before).abs().max()) > 1e-2
    # Magnitudes learn at the rate of everything else, from the current task's classes alone.
    assert config.optim.alpha_lr is None
    logits, labels = torch.randn(4, 12), torch.tensor([8, 9, 10, 11])
    expected = torch.nn.functional.cross_entropy(logits[:, 8:], labels - 8)
    assert float(spy.method.loss(logits, labels, range(8, 12))) == pytest.approx(float(expected))


@pytest.mark.parametrize(
    ("data", "tasks", "lr", "epochs", "schedule"),
    [
        ("cifar100", 10, 8e-3, 20, "constant"),
        ("imagenet_r", 10, 8e-3, 20, "constant"),
        ("imagenet_r", 20, 1e-2, 20, "constant"),
        ("imagenet_a", 10, 1e-2, 20, "constant"),
        ("domainnet", 5, 2e-2, 10, "step"),
    ],
)
def test_the_published_recipes(
    data: str, tasks: int, lr: float, epochs: int, schedule: str
) -> None:
    params = {"method.name": "sd_lora", "recipe": f"sd_lora/{data}", "data.tasks": tasks}
    config = TrialConfig.from_params(params)
    optim = config.optim
    assert (optim.optimizer, optim.momentum, optim.weight_decay) == ("sgd", 0.9, 0.0)
    assert (optim.lr, optim.epochs, optim.schedule) == (lr, epochs, schedule)
    assert (optim.batch_size, optim.alpha_lr, optim.head_lr) == (128, None, None)
    assert (config.data.augmentation, config.data.crop_scale) == ("random_resized_crop", 0.05)
    assert (config.data.class_order, config.data.test_view) == ("published", "bicubic")
    if schedule == "step":
        assert (optim.milestones, optim.step_factor) == ((4,), 0.005)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rank": 17}, r"method\.rank must be in \[1, 16\]"),
        ({"rank": 0}, r"method\.rank must be in"),
        ({"rank_steps": ("17 from 2",)}, r"ranks in method\.rank_steps must be in \[1, 16\]"),
        ({"rank_steps": ("0 from 2",)}, "ranks in method"),
        ({"rank_steps": ("8 from 1",)}, "task 2 or later"),
        ({"rank_steps": ("8 from 5", "6 from 5")}, "in order of tasks"),
        ({"rank_steps": ("8 at 5",)}, "like '8 from 5'"),
        ({"rank_steps": ("8 from five",)}, "like '8 from 5'"),
        ({"rank_steps": ("-8 from 5",)}, "like '8 from 5'"),
        ({"rank_steps": ("8",)}, "like '8 from 5'"),
        ({"alpha_init": 0.0}, "alpha_init must be a finite number above 0"),
        ({"tau": 0.0}, r"method\.tau must be in \(0, 1\)"),
        ({"tau": 1.0}, r"method\.tau must be in"),
        ({"tau": 0.1, "alpha_reset": True}, r"method\.alpha_reset must be false with method\.tau"),
    ],
)
def test_settings_out_of_range_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        catalog.declaration("sd_lora").config(**changes).check(16)
