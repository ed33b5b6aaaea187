import typing
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.trainables.draws import normal, seeded
from tests.trainables.trials import comparable, results_of, run, tiny, trained
from trainables.backbones.adapted import AdaptedBackbone
from trainables.config import TrialConfig
from trainables.data.batches import TaskImages, to_unit
from trainables.data.images import ArrayImages
from trainables.data.stream import ImageSet, Task
from trainables.low_rank.branch import LowRankBranch, LowRankLinear
from trainables.method import MethodContext
from trainables.methods.inflora import config as config_
from trainables.methods.inflora import method as inflora
from trainables.trainer import SequentialTrainer


@torch.no_grad()
def old_outputs(trainer: SequentialTrainer, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """Outputs of every adapted layer on the given inputs, side by side."""
    layers = trainer._model.layers
    return torch.cat([layers[name](x).flatten() for name, x in inputs.items()])


@pytest.mark.parametrize("energy", ["sigma4", "sigma2"])
def test_outputs_inside_the_remembered_space_do_not_move(energy: str) -> None:
    changes = {"method.rank": 2, "method.epsilon": 0.9, "method.energy": energy}
    trainer = trained("inflora", changes, 1)
    memories = trainer._method._memories  # type: ignore[attr-defined]
    generator = seeded()
    inside, outside = {}, {}
    for name in trainer._model.layers:
        memory = memories[name]
        vectors = normal(20, memory.dim, seed=generator)
        free = memory.project(vectors.T).T
        inside[name], outside[name] = (vectors - free).float(), free.float()
    before = old_outputs(trainer, inside), old_outputs(trainer, outside)
    trainer.train_task()
    after = old_outputs(trainer, inside), old_outputs(trainer, outside)
    scale = float(before[0].abs().max())
    assert float((after[0] - before[0]).abs().max()) < 1e-5 * scale
    assert float((after[1] - before[1]).abs().max()) > 1e-4 * scale


@pytest.mark.parametrize("policy", ["clip", "freeze", "relax", "released"])
def test_free_space_only_shrinks_and_exhaustion_is_counted(policy: str) -> None:
    changes = {
        "method.on_exhaustion": policy,
        "method.rank": 4,
        "method.epsilon": 0.99,
        "method.energy": "sigma2",
        "data.tasks": 12,
        "data.train_per_class": 4,
    }
    results = [result.metrics for result in results_of("inflora", changes)]
    free = [metrics["subspace/dim_free"] for metrics in results]
    assert free == sorted(free, reverse=True)
    for metrics in results:
        short = [metrics[f"subspace/dim_free/layer_{layer:02d}"] < 4 for layer in range(2)]
        # The alarm rings under "relax" as well, though it keeps free what is asked for.
        assert policy == "relax" or metrics["subspace/exhausted_layers"] == sum(short)
    last = results[-1]
    assert last["subspace/exhausted_layers"] == 2
    for layer in range(2):
        rank, left = (last[f"subspace/{name}/layer_{layer:02d}"] for name in ("rank", "dim_free"))
        # What is free shrinks, so that there was at least as much when the task began.
        assert left <= rank < 4 if policy == "clip" else rank == (0 if policy == "freeze" else 4)
        assert left == 4 if policy == "relax" else left < 4
    lowered = last["subspace/threshold/layer_00"] < 0.99 + 0.01 * 11 / 12 - 1e-9
    assert lowered == (policy == "relax")


def test_interference_is_bounded_by_what_the_memory_left_out() -> None:
    """ΔW lies in the free space, so ‖ΔW C_old‖ ≤ ‖ΔW‖ · ‖(I − M Mᵀ) C_old‖."""
    trainer = trained("inflora", {"method.rank": 2, "method.epsilon": 0.99}, 1)
    method = trainer._method
    memories, old = method._memories, method._old  # type: ignore[attr-defined]
    bounds = {
        name: memories[name].free_energy_share(old.mean(name)) ** 0.5
        for name in trainer._model.layers
    }
    metrics = trainer.train_task().metrics
    for name, bound in bounds.items():
        assert 0 < metrics[f"subspace/interference/{name}"] <= bound + 1e-6


def test_branches_are_on_k_and_v_and_on_what_the_config_says() -> None:
    for method, changes, expected in (
        ("inflora", {}, ("k", "v")),
        ("sd_lora", {}, ("q", "v")),
        ("inflora", {"backbone.adapt": ["q"]}, ("q",)),
    ):
        layers = SequentialTrainer(tiny(method, changes))._model.layers.values()
        assert {tuple(layer.slices) for layer in layers} == {expected}


def released_method(tasks: int) -> tuple[inflora.InfLoRA, AdaptedBackbone]:
    """InfLoRA under the preset "released" on one linear layer of 24 inputs, in float64."""
    params = {"method.name": "inflora", "preset": "released", "method.rank": 4}
    config = TrialConfig.from_params(params).method
    layer = LowRankLinear(nn.Linear(24, 24).double(), {"k": slice(0, 12), "v": slice(12, 24)})
    model = AdaptedBackbone(layer, {"layer_00": layer}, 24, nn.Identity())
    context = MethodContext(model, tasks, torch.device("cpu"), seeded())
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
        monkeypatch.setattr(inflora, "second_moments", lambda *_, moments=moments: moments)
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
        assert metrics["subspace/threshold"] == pytest.approx(golden["thr"][index], abs=1e-12)
        memory = method._memories["layer_00"]
        assert (memory.kind, memory.basis.shape[1]) == (golden["kind"][index], golden["dim"][index])


STRATEGY_NAMES = typing.get_args(typing.get_type_hints(config_.InfLoRAConfig)["down_init"])


@pytest.mark.parametrize("strategy", STRATEGY_NAMES)
def test_every_choice_of_down_repeats_itself_and_says_if_it_keeps_out_of_the_memory(
    strategy: str,
) -> None:
    changes = {"method.rank": 2, "method.down_init": strategy, "data.tasks": 2}
    trainer = SequentialTrainer(tiny("inflora", changes))
    first, second = run(trainer)
    assert all(parameter.grad is None for parameter in trainer._model.parameters())
    again = results_of("inflora", changes)[1]
    assert comparable(second) == comparable(again)
    assert second.metrics["subspace/rank"] == 2
    assert not any("angle" in name for name in first.metrics)
    angle = second.metrics["subspace/smallest_angle"]
    kept_out = strategy in ("designed", "null_space_random", "null_space_smallest", "gradient")
    assert angle == pytest.approx(90, abs=1e-3) if kept_out else 0 <= angle < 89
    assert second.metrics["subspace/smallest_angle/layer_01"] >= 0


def test_without_diagnostics_only_the_free_energy_is_measured() -> None:
    metrics = results_of("inflora", {"diagnostics": False}, 2)[1].metrics
    assert "subspace/new_energy_free" in metrics
    assert not any("angle" in name or "interference" in name for name in metrics)


@pytest.mark.parametrize("images", ["plain", "augmented"])
def test_moments_are_taken_of_plain_or_augmented_images(
    images: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Tensor] = []
    original = inflora.second_moments

    def watch(model: Any, layers: Any, batches: Iterable[Tensor], calls: Any) -> dict[str, Tensor]:
        kept = list(batches)
        seen.append(torch.cat(kept))
        return original(model, layers, kept, calls)

    monkeypatch.setattr(inflora, "second_moments", watch)
    trainer = trained("inflora", {"method.moment_images": images}, 1)
    data = to_unit(trainer._stream[0].train.images)
    assert [batch.shape for batch in seen] == [data.shape, data.shape]
    for batch in seen:
        assert torch.equal(batch, data) == (images == "plain")
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
def test_bad_fields_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny("inflora", changes)
