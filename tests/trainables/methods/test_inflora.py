from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from trainables.config import TrialConfig
from trainables.data.batches import to_unit
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
    for name, memory in memories.items():
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
        name: memory.free_energy_share(old.mean[name]) ** 0.5 for name, memory in memories.items()
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
