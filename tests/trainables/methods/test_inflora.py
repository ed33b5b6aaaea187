import math
import typing
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from trainables.backbones.adapted import AdaptedBackbone
from trainables.config import TrialConfig
from trainables.data.batches import TaskImages, to_unit
from trainables.data.images import ArrayImages
from trainables.data.stream import ImageSet, Task
from trainables.low_rank.branch import LowRankBranch, LowRankLinear
from trainables.method import MethodContext
from trainables.methods import inflora
from trainables.trainer import SequentialTrainer

MakeConfig = Callable[..., TrialConfig]


@torch.no_grad()
def old_outputs(trainer: SequentialTrainer, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """Outputs of every adapted layer on the given inputs, side by side."""
    layers = trainer._model.layers
    return torch.cat([layers[name](x).flatten() for name, x in inputs.items()])


@pytest.mark.parametrize("energy", ["sigma4", "sigma2"])
def test_outputs_inside_the_remembered_space_do_not_move(energy: str, tiny: MakeConfig) -> None:
    config = tiny("inflora", {"method.rank": 2, "method.epsilon": 0.9, "method.energy": energy})
    trainer = SequentialTrainer(config)
    trainer.train_task()
    memories = trainer._method._memories  # type: ignore[attr-defined]
    generator = torch.Generator().manual_seed(0)
    inside, outside = {}, {}
    for name in trainer._model.layers:
        memory = memories[name]
        vectors = torch.randn(20, memory.dim, generator=generator, dtype=torch.float64)
        free = memory.project(vectors.T).T
        inside[name], outside[name] = (vectors - free).float(), free.float()
    before = old_outputs(trainer, inside), old_outputs(trainer, outside)
    trainer.train_task()
    after = old_outputs(trainer, inside), old_outputs(trainer, outside)
    scale = float(before[0].abs().max())
    assert float((after[0] - before[0]).abs().max()) < 1e-5 * scale
    assert float((after[1] - before[1]).abs().max()) > 1e-4 * scale


def test_merging_changes_no_output_of_the_network(tiny: MakeConfig) -> None:
    trainer = SequentialTrainer(tiny("inflora", {"method.rank": 2}))
    trainer.train_task()
    model = trainer._model
    images = to_unit(trainer._stream[0].held_out.images)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for layer in model.layers.values():
            for branch in layer.add_branch(2).values():
                branch.down.normal_(generator=generator)
                branch.up.normal_(0, 0.1, generator=generator)
        open_branches = model(images)
        for layer in model.layers.values():
            layer.merge()
        torch.testing.assert_close(model(images), open_branches, atol=1e-6, rtol=1e-6)


def test_free_space_only_shrinks_and_exhaustion_is_counted(tiny: MakeConfig) -> None:
    config = tiny(
        "inflora",
        {"method.rank": 4, "method.epsilon": 0.999, "data.tasks": 12, "data.train_per_class": 4},
    )
    trainer = SequentialTrainer(config)
    results = [trainer.train_task() for _ in range(12)]
    free = [result.metrics["subspace/dim_free"] for result in results]
    assert free == sorted(free, reverse=True)
    for result in results:
        short = [result.metrics[f"subspace/dim_free/layer_{layer:02d}"] < 4 for layer in range(2)]
        assert result.metrics["subspace/exhausted_layers"] == sum(short)
    assert results[-1].metrics["subspace/exhausted_layers"] == 2
    # The rank of a task is what was free when it began.
    assert results[-1].metrics["subspace/rank"] < 4


def test_interference_is_bounded_by_what_the_memory_left_out(tiny: MakeConfig) -> None:
    """ΔW lies in the free space, so ‖ΔW C_old‖ ≤ ‖ΔW‖ · ‖(I − M Mᵀ) C_old‖."""
    trainer = SequentialTrainer(tiny("inflora", {"method.rank": 2, "method.epsilon": 0.99}))
    trainer.train_task()
    method = trainer._method
    memories, old = method._memories, method._old  # type: ignore[attr-defined]
    bounds = {
        name: memories[name].free_energy_share(old.mean(name)) ** 0.5
        for name in trainer._model.layers
    }
    metrics = trainer.train_task().metrics
    for name, bound in bounds.items():
        assert 0 < metrics[f"subspace/interference/{name}"] <= bound + 1e-6


def test_thresholds_are_those_of_the_released_run(tiny: MakeConfig) -> None:
    """ε_t = ε + (ε_end − ε) · t / T with t from 0; golden: ε = 0.95, ε_end = 1, T = 12."""
    trainer = SequentialTrainer(tiny("inflora", {"method.epsilon": 0.95, "data.tasks": 12}))
    seen = [trainer.train_task().metrics["subspace/threshold"] for _ in range(12)]
    golden = np.load(Path(__file__).parents[1] / "low_rank" / "dualgpm_small.npz")["thr"]
    assert seen == pytest.approx(golden.tolist(), abs=1e-12)


def test_branches_are_on_k_and_v_and_on_what_the_config_says(tiny: MakeConfig) -> None:
    assert slices(tiny("inflora")) == {"k", "v"}
    assert slices(tiny("sd_lora")) == {"q", "v"}
    assert slices(tiny("inflora", {"backbone.adapt": ["q"]})) == {"q"}


def slices(config: TrialConfig) -> set[str]:
    (names,) = {tuple(layer.slices) for layer in SequentialTrainer(config)._model.layers.values()}
    return set(names)


def released_method(tasks: int) -> tuple[inflora.InfLoRA, AdaptedBackbone]:
    """InfLoRA under the preset "released" on one linear layer of 24 inputs, in float64."""
    params = {"method.name": "inflora", "preset": "released", "method.rank": 4}
    config = TrialConfig.from_params(params).method
    layer = LowRankLinear(nn.Linear(24, 24).double(), {"k": slice(0, 12), "v": slice(12, 24)})
    model = AdaptedBackbone(layer, {"layer_00": layer}, 24, nn.Identity())
    generator = torch.Generator().manual_seed(0)
    context = MethodContext(model, tasks, torch.device("cpu"), generator)
    return inflora.create(config, context), model  # type: ignore[arg-type]


def task_of(index: int) -> tuple[Task, TaskImages]:
    source = ArrayImages(torch.zeros(2, 24, dtype=torch.uint8))
    images = ImageSet(source, torch.arange(2), torch.tensor([index] * 2))
    train = TaskImages(images, 2, "none", torch.Generator())
    return Task(index, range(index, index + 1), images, images), train


def test_preset_released_reproduces_the_released_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """`down` with its √3 and dim M after each of the 12 tasks of the golden run."""
    golden = np.load(Path(__file__).parents[1] / "low_rank" / "dualgpm_small.npz")
    method, model = released_method(len(golden["cov"]))
    for index, covariance in enumerate(golden["cov"]):
        moments = {"layer_00": torch.from_numpy(covariance)}
        monkeypatch.setattr(inflora, "second_moments", lambda *_, found=moments: found)
        task, train = task_of(index)
        method.begin_task(model, task, train)
        expected = torch.from_numpy(golden["down"][index])
        for branch in model.layers["layer_00"].branches.values():
            assert isinstance(branch, LowRankBranch)
            down = branch.down.detach()
            signs = (down * expected).sum(1, keepdim=True).sign()
            torch.testing.assert_close(down * signs, expected, atol=1e-8, rtol=0)
            assert torch.linalg.vector_norm(down, dim=1).tolist() == pytest.approx([3**-0.5] * 4)
        metrics = method.end_task(model, task, train)
        assert metrics["subspace/threshold"] == pytest.approx(golden["thr"][index])
        memory = method._memories["layer_00"]
        assert (memory.kind, memory.basis.shape[1]) == (golden["kind"][index], golden["dim"][index])


def test_training_up_equals_training_the_weight_inside_the_span_of_down() -> None:
    """Open question 8: each step through `up` is the step of W projected on span(down)."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    layer = LowRankLinear(nn.Linear(10, 6).double(), {"all": slice(0, 6)})
    (branch,) = layer.add_branch(3).values()
    rows, _ = torch.linalg.qr(normal(10, 3))
    branch.down = nn.Parameter(rows.T, requires_grad=False)
    weight = layer.weight.detach().clone().requires_grad_()
    onto = rows @ rows.T
    start, inputs, labels = weight.detach().clone(), normal(40, 10), torch.arange(40) % 6
    for _ in range(20):
        (by_up,) = torch.autograd.grad(
            functional.cross_entropy(layer(inputs).tanh(), labels), [branch.up]
        )
        outputs = functional.linear(inputs, weight, layer.base.bias)
        (by_weight,) = torch.autograd.grad(
            functional.cross_entropy(outputs.tanh(), labels), [weight]
        )
        with torch.no_grad():
            branch.up.sub_(0.5 * by_up)
            weight.sub_(0.5 * by_weight @ onto)
        torch.testing.assert_close(
            layer.weight + branch.delta(), weight.detach(), atol=1e-13, rtol=0
        )
    assert float((weight.detach() - start).norm()) > 0.1


STRATEGY_NAMES = typing.get_args(typing.get_type_hints(inflora.InfLoRAConfig)["down_init"])


@pytest.mark.parametrize("strategy", STRATEGY_NAMES)
def test_every_choice_of_down_trains_and_repeats_itself(strategy: str, tiny: MakeConfig) -> None:
    config = tiny("inflora", {"method.rank": 2, "method.down_init": strategy})
    results = []
    for _ in range(2):
        trainer = SequentialTrainer(config)
        results.append([trainer.train_task(), trainer.train_task()])
        assert all(p.grad is None for p in trainer._model.parameters())
    assert results[0][1].metrics["subspace/rank"] == 2
    assert results[0][1].accuracy_row == results[1][1].accuracy_row
    assert results[0][1].metrics["train/loss"] == results[1][1].metrics["train/loss"]


def test_angles_say_which_choices_keep_out_of_the_memory(tiny: MakeConfig) -> None:
    for strategy in STRATEGY_NAMES:
        trainer = SequentialTrainer(
            tiny("inflora", {"method.rank": 2, "method.down_init": strategy})
        )
        assert not any("angle" in name for name in trainer.train_task().metrics)
        metrics = trainer.train_task().metrics
        angle = metrics["subspace/smallest_angle"]
        kept_out = strategy in ("designed", "null_space_random", "null_space_smallest", "gradient")
        assert angle == pytest.approx(90, abs=1e-3) if kept_out else 0 <= angle < 89
        assert metrics["subspace/smallest_angle/layer_01"] >= 0


def test_without_diagnostics_only_the_free_energy_is_measured(tiny: MakeConfig) -> None:
    trainer = SequentialTrainer(tiny("inflora", {"diagnostics": False}))
    trainer.train_task()
    metrics = trainer.train_task().metrics
    assert "subspace/new_energy_free" in metrics
    assert not any("angle" in name or "interference" in name for name in metrics)


@pytest.mark.parametrize("policy", ["clip", "freeze", "relax", "released"])
def test_each_exhaustion_policy_survives_sixty_tasks(policy: str, tiny: MakeConfig) -> None:
    changes = {
        "method.on_exhaustion": policy,
        "method.rank": 4,
        "method.epsilon": 0.99,
        "method.energy": "sigma2",
        "data.classes": 60,
        "data.tasks": 60,
        "data.train_per_class": 3,
        "data.validation_share": 0.34,
        "optim.epochs": 1,
        "optim.lr": 1e-3,
    }
    trainer = SequentialTrainer(tiny("inflora", changes))
    results = [trainer.train_task().metrics for _ in range(60)]
    for metrics in results:
        assert all(math.isfinite(value) for value in metrics.values())
    last = results[-1]
    for layer in range(2):
        rank, free = (last[f"subspace/{name}/layer_{layer:02d}"] for name in ("rank", "dim_free"))
        # What is free shrinks, so that there was at least as much when the task began.
        assert free <= rank < 4 if policy == "clip" else rank == (0 if policy == "freeze" else 4)
        assert free == 4 if policy == "relax" else free < 4
    assert last["subspace/exhausted_layers"] == 2
    assert last["subspace/exhausted_layers/layer_01"] == 1
    scheduled = 0.99 + 0.01 * 59 / 60
    if policy == "relax":
        assert last["subspace/threshold/layer_00"] < scheduled
    else:
        assert last["subspace/threshold/layer_00"] == pytest.approx(scheduled)


@pytest.mark.parametrize("images", ["plain", "augmented"])
def test_moments_are_taken_of_plain_or_augmented_images(
    images: str, tiny: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Tensor] = []
    original = inflora.second_moments

    def watch(
        model: nn.Module,
        layers: Mapping[str, LowRankLinear],
        batches: Iterable[Tensor],
        calls: int | None,
    ) -> dict[str, Tensor]:
        kept = list(batches)
        seen.append(torch.cat(kept))
        return original(model, layers, kept, calls)

    monkeypatch.setattr(inflora, "second_moments", watch)
    trainer = SequentialTrainer(tiny("inflora", {"method.moment_images": images}))
    trainer.train_task()
    data = to_unit(trainer._stream[0].train.images)
    assert [one.shape for one in seen] == [data.shape, data.shape]
    for one in seen:
        assert torch.equal(one, data) == (images == "plain")
    assert torch.equal(seen[0], seen[1]) == (images == "plain")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method.rank": 17}, r"method.rank must be in \[1, 16\]"),
        ({"method.epsilon": 0.0}, r"method.epsilon must be in \(0, 1\]"),
        ({"method.epsilon_end": 0.5}, r"method.epsilon_end must be in \[method.epsilon, 1\]"),
        ({"method.down_scale": 0.0}, "method.down_scale must be a finite number above 0"),
        ({"method.align_lr": float("inf")}, "method.align_lr must be a finite number above 0"),
        ({"method.align_epochs": 0}, "method.align_epochs must be at least 1"),
        ({"method.align_samples": 0}, "method.align_samples must be at least 1"),
        ({"method.down_init": "zeros"}, "method.down_init must be one of"),
        ({"method.on_exhaustion": "stop"}, "method.on_exhaustion must be one of"),
    ],
)
def test_bad_fields_are_refused(changes: dict[str, Any], message: str, tiny: MakeConfig) -> None:
    with pytest.raises(ValueError, match=message):
        tiny("inflora", changes)
