from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from trainables.config import TrialConfig
from trainables.data.batches import to_unit
from trainables.low_rank import update_watch
from trainables.low_rank.branch import LowRankLinear
from trainables.method_files import method_config, method_file
from trainables.methods import sd_lora
from trainables.trainer import SequentialTrainer, TaskResult

MakeConfig = Callable[..., TrialConfig]
SCOPES = ("global", "layer", "branch")
NORMALISERS = ("frobenius", "factor_norms")
UNTIMED = ("time/", "memory/host_rss")


class Spy:
    """Wraps a trainer's method and writes down what it is given at the boundaries of tasks."""

    def __init__(self, trainer: SequentialTrainer, monkeypatch: pytest.MonkeyPatch) -> None:
        self.trainer = trainer
        self.method: Any = trainer._method
        self.raw: list[dict[tuple[str, str], tuple[Tensor, Tensor]]] = []
        self.features: dict[str, list[Tensor]] = {"trained": [], "ended": [], "begun": []}
        self.groups: list[dict[str, list[torch.nn.Parameter]]] = []
        self.alphas: list[list[float]] = []
        begin, end = self.method.begin_task, self.method.end_task

        def begin_task(*args: Any) -> Any:
            groups, recorded = begin(*args)
            self.features["begun"].append(self.outputs())
            self.groups.append({group.role: group.parameters for group in groups})
            self.alphas.append([x for one in groups[1].parameters for x in one.flatten().tolist()])
            return groups, recorded

        def end_task(*args: Any) -> Any:
            self.raw.append(
                {
                    (name, part): (branch.up.detach().double(), branch.down.detach().double())
                    for name, layer in self.layers.items()
                    for part, branch in ((p, layer.branch_of(p)) for p in layer.slices)
                }
            )
            self.features["trained"].append(self.outputs())
            recorded = end(*args)
            self.features["ended"].append(self.outputs())
            return recorded

        monkeypatch.setattr(self.method, "begin_task", begin_task)
        monkeypatch.setattr(self.method, "end_task", end_task)

    @property
    def layers(self) -> dict[str, LowRankLinear]:
        return self.trainer._model.layers

    @torch.no_grad()
    def outputs(self) -> Tensor:
        features: Tensor = self.trainer._model(to_unit(self.trainer._stream[0].train.images[:16]))
        return features


def run(trainer: SequentialTrainer) -> list[TaskResult]:
    results = []
    while not trainer.done:
        results.append(trainer.train_task())
    return results


def norm(up: Tensor, down: Tensor, normaliser: str) -> Tensor:
    found: Tensor = torch.linalg.matrix_norm(up @ down)
    if normaliser == "factor_norms":
        found = torch.linalg.matrix_norm(up) * torch.linalg.matrix_norm(down)
    return found


@pytest.mark.parametrize("reset", [True, False])
@pytest.mark.parametrize("normaliser", NORMALISERS)
def test_forward_is_the_hand_written_sum_over_pairs(
    normaliser: str, reset: bool, tiny: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W0 x + Σ_{k<t} α_k (up_k down_k / norm_k) x + α_t up_t down_t x, in float64."""
    changes = {"method.normaliser": normaliser, "method.alpha_reset": reset, "method.rank": 3}
    spy = Spy(SequentialTrainer(tiny("sd_lora", changes)), monkeypatch)
    for _ in range(3):
        spy.trainer.train_task()
    with monkeypatch.context() as patch:
        patch.setattr(spy.method, "end_task", lambda *_: {})
        spy.trainer.train_task()
    for name, layer in spy.layers.items():
        x = torch.randn(5, layer.in_features, generator=torch.Generator().manual_seed(0))
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
@pytest.mark.parametrize("scope", SCOPES)
def test_the_network_does_not_jump_where_magnitudes_are_carried_over(
    scope: str, normaliser: str, tiny: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {"method.alpha_scope": scope, "method.normaliser": normaliser, "data.tasks": 3}
    spy = Spy(SequentialTrainer(tiny("sd_lora", changes)), monkeypatch)
    run(spy.trainer)
    trained, ended, begun = (spy.features[key] for key in ("trained", "ended", "begun"))
    for before, after in [*zip(trained, ended, strict=True), *zip(ended, begun[1:], strict=False)]:
        torch.testing.assert_close(after, before, atol=1e-5, rtol=1e-5)
    assert float((trained[1] - begun[1]).abs().max()) > 1e-2


def test_a_shared_magnitude_is_one_parameter_with_one_value(
    tiny: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    for scope, places in (("global", 1), ("layer", 2), ("branch", 4)):
        spy = Spy(SequentialTrainer(tiny("sd_lora", {"method.alpha_scope": scope})), monkeypatch)
        run(spy.trainer)
        given = [groups["alpha"] for groups in spy.groups]
        assert [len(one) for one in given] == [places] + [2 * places] * 3
        assert all(len({id(p) for p in one}) == len(one) for one in given)
        stacks = [layer.stack_of(part) for layer in spy.layers.values() for part in layer.slices]
        assert len({id(stack.alpha) for stack in stacks}) == places
        assert len({tuple(stack.alpha.tolist()) for stack in stacks}) == places


def test_every_magnitude_is_trained_and_no_old_direction(tiny: MakeConfig) -> None:
    trainer = SequentialTrainer(tiny("sd_lora", {"optim.alpha_lr": 0.05}))
    trainer.train_task()
    trainer.train_task()
    stacks = [layer.stack_of(p) for layer in trainer._model.layers.values() for p in layer.slices]
    before = [(s.up.clone(), s.down.clone(), s.alpha.detach().clone()) for s in stacks]
    trainer.train_task()
    for stack, (up, down, alpha) in zip(stacks, before, strict=True):
        assert torch.equal(stack.up[:, : up.shape[1]], up)
        assert torch.equal(stack.down[: down.shape[0]], down)
        assert bool((stack.alpha[:2] - alpha).abs().min() > 1e-4)


@pytest.mark.parametrize("preset", ["paper", "released"])
def test_far_more_than_twenty_tasks(preset: str, tiny: MakeConfig) -> None:
    """The released code has 20 old magnitudes: its 22nd task fails."""
    changes = {"preset": preset, "data.classes": 26, "data.tasks": 26, "optim.epochs": 1}
    last = run(SequentialTrainer(tiny("sd_lora", changes)))[-1].metrics
    assert last["alpha/pairs_kept"] == 26
    assert [key for key in last if key.startswith("alpha/task_")] == [
        f"alpha/task_{task:02d}" for task in range(1, 27)
    ]


@pytest.mark.parametrize(
    "changes",
    [
        {"preset": "released"},
        {"method.alpha_scope": "global"},
        {"method.alpha_scope": "layer", "method.rank": 2, "method.tau": 0.99},
        {
            "method.alpha_scope": "branch",
            "method.rank": 2,
            "method.tau": 0.99,
            "optim.optimizer": "sgd",
        },
    ],
)
def test_resuming_is_bit_exact(changes: dict[str, Any], tiny: MakeConfig, tmp_path: Path) -> None:
    whole = SequentialTrainer(tiny("sd_lora", changes))
    results = [whole.train_task(), whole.train_task()]
    whole.save(tmp_path)
    results += run(whole)
    assert (results[-1].metrics["alpha/pairs_kept"] < 4) == ("method.tau" in changes)
    resumed = SequentialTrainer(tiny("sd_lora", changes))
    resumed.restore(tmp_path)
    for one, other in zip(results[2:], run(resumed), strict=True):
        assert comparable(one) == comparable(other)
        assert one.accuracy_row == other.accuracy_row
    for name, layer in whole._model.layers.items():
        other_layer = resumed._model.layers[name]
        assert torch.equal(layer.delta(), other_layer.delta())


def comparable(result: TaskResult) -> dict[str, float]:
    return {k: v for k, v in result.metrics.items() if not k.startswith(UNTIMED)}


def test_diagnostics_cost_nothing_where_they_are_off(
    tiny: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    on = run(SequentialTrainer(tiny("sd_lora")))
    monkeypatch.delattr(update_watch, "second_moments")
    monkeypatch.delattr(sd_lora.direction_metrics, "similarity")
    off = run(SequentialTrainer(tiny("sd_lora", {"diagnostics": False})))
    for task, (measured, plain) in enumerate(zip(on, off, strict=True)):
        only = {key for key in measured.metrics if key not in plain.metrics}
        names = ("subspace/interference", "subspace/direction_similarity")
        assert only == {one for n in names for one in (n, f"{n}/layer_00", f"{n}/layer_01") if task}
        assert measured.accuracy_row == plain.accuracy_row
        assert all(0 <= measured.metrics[key] <= 1 for key in only)


def test_the_presets_are_these_differences() -> None:
    released = {"normaliser": "factor_norms", "alpha_scope": "global", "alpha_reset": True}
    paper = {"normaliser": "frobenius", "alpha_scope": "branch", "alpha_reset": False}
    presets = method_file("sd_lora").presets
    found = {
        name: {key.removeprefix("method."): value for key, value in keys.items()}
        for name, keys in presets.items()
    }
    assert found == {"paper": paper, "released": released, "corrected": released}


class TestReleased:
    """The documented quirks of the released code, one a test."""

    @pytest.fixture
    def spy(self, tiny: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> Spy:
        config = tiny("sd_lora", {"preset": "released", "data.tasks": 3})
        found = Spy(SequentialTrainer(config), monkeypatch)
        run(found.trainer)
        return found

    def test_old_pairs_are_divided_by_the_product_of_their_factors_norms(self, spy: Spy) -> None:
        for (name, part), (up, down) in spy.raw[0].items():
            old, expected = spy.layers[name].stack_of(part).up[:, :10].double(), up
            expected = up / norm(up, down, "factor_norms")
            torch.testing.assert_close(old, expected, atol=1e-6, rtol=1e-5)
            assert float(torch.linalg.matrix_norm(old @ down)) < 0.99

    def test_one_magnitude_a_task_for_all_layers_and_for_q_and_v(self, spy: Spy) -> None:
        assert [len(groups["alpha"]) for groups in spy.groups] == [1, 2, 2]
        assert [len(alphas) for alphas in spy.alphas] == [1, 2, 3]

    def test_all_magnitudes_are_set_back_at_each_new_task(self, spy: Spy) -> None:
        assert spy.alphas == [pytest.approx([0.8] * task) for task in (1, 2, 3)]
        stack = spy.layers["layer_00"].stack_of("q")
        assert all(abs(alpha - 0.8) > 1e-4 for alpha in stack.alpha.tolist())

    def test_the_function_jumps_there_and_only_there(self, spy: Spy) -> None:
        trained, ended, begun = (spy.features[key] for key in ("trained", "ended", "begun"))
        for one, other in zip(trained, ended, strict=True):
            torch.testing.assert_close(other, one, atol=1e-5, rtol=1e-5)
        for one, other in zip(ended, begun[1:], strict=False):
            assert float((other - one).abs().max()) > 1e-2

    def test_magnitudes_learn_at_the_rate_of_everything_else(self, spy: Spy) -> None:
        assert spy.trainer.config.optim.alpha_lr is None

    def test_the_loss_is_over_the_current_tasks_classes(self, spy: Spy) -> None:
        logits, labels = torch.randn(4, 12), torch.tensor([8, 9, 10, 11])
        expected = torch.nn.functional.cross_entropy(logits[:, 8:], labels - 8)
        found = spy.method.loss(logits, labels, range(8, 12))
        assert float(found) == pytest.approx(float(expected))


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
    assert config.data.class_order == "shuffled"
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
        method_config("sd_lora")(**changes).check(16)
