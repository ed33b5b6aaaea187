"""RanPAC: what is trained, when, and what the order of tasks changes."""

from typing import Any

import pytest
import torch

from tests.trainables.trials import run, tiny, weights
from trainables.data.batches import to_unit
from trainables.heads import RidgeHead
from trainables.trainer import SequentialTrainer

ONE = {"method.head_ridge_powers": (2,)}


def test_a_branch_is_trained_on_the_first_task_alone() -> None:
    trainer = SequentialTrainer(tiny("ranpac"))
    seen = [weights(trainer)]
    results = []
    for _ in range(3):
        results.append(trainer.train_task().metrics)
        seen.append(weights(trainer))
    moved = {name for name, value in seen[0].items() if not torch.equal(seen[1][name], value)}
    assert moved == {f"network.blocks.{block}.attn.qkv.base.weight" for block in (0, 1)}
    for after in seen[2:]:
        assert all(torch.equal(after[name], value) for name, value in seen[1].items())
    assert ["train/loss" in metrics for metrics in results] == [True, False, False]
    # Two slices of two layers, rank 10 with an α, and nothing after the merge.
    factors = 2 * 2 * (10 * (16 + 16) + 1) * 4
    assert [metrics["memory/branch_bytes"] for metrics in results] == [factors, 0, 0]


def test_nothing_grows_but_a_column_a_class() -> None:
    results = run(SequentialTrainer(tiny("ranpac", {"method.head_projection": 50})))
    kept = [result.metrics["memory/subspace_bytes"] for result in results]
    # G, W, and Q and the solution of three classes a task.
    assert kept == [4 * (50 * 50 + 16 * 50 + 2 * 50 * 3 * task) for task in (1, 2, 3, 4)]


@pytest.mark.parametrize("network", ["test_vit", "test_swin", "test_convnext"])
def test_without_tuning_it_is_the_regression_on_pretrained_features(network: str) -> None:
    """Of all images at once, whatever the tasks: with one λ their order changes nothing."""
    changes = {"method.tuning": "none", "backbone.name": network, **ONE}
    trainer = SequentialTrainer(tiny("ranpac", changes))
    before = weights(trainer)
    run(trainer)
    assert all(torch.equal(weights(trainer)[name], value) for name, value in before.items())
    state = trainer._method.state_dict()["heads"]["fitted"]
    images = torch.cat([task.train.images for task in trainer._stream])
    labels = torch.cat([task.train.labels for task in trainer._stream])
    with torch.no_grad():
        rows = (trainer._model(to_unit(images)).double() @ state["projection"].double()).relu()
    flags = torch.nn.functional.one_hot(labels).double()
    whole = rows.T @ rows + 100 * torch.eye(64)
    expected = torch.linalg.solve(whole, rows.T @ flags)
    torch.testing.assert_close(state["weight"].double(), expected, rtol=1e-3, atol=1e-5)


def test_the_order_of_tasks_changes_nothing() -> None:
    """Two tasks in either order, the same λ: the same scores, classes in another order."""
    heads = []
    features = torch.randn(20, 6, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(20) % 2
    for order in ((0, 1), (1, 0)):
        head = RidgeHead(6, 30, (0,), torch.device("cpu"), torch.Generator().manual_seed(1))
        for place, half in enumerate(order):
            own = slice(10 * half, 10 * half + 10)
            head.fit(features[own], labels[own] + 2 * place, range(2 * place, 2 * place + 2))
        heads.append(head.logits(features))
    torch.testing.assert_close(heads[0], heads[1][:, [2, 3, 0, 1]], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rank": 17}, r"method.rank must be in \[1, 16\], but got 17"),
        ({"head_projection": 0}, r"method.head_projection must be at least 1, but got 0"),
        ({"head_ridge_powers": (40,)}, r"method.head_ridge_powers must be .*, but got \[40\]"),
        ({"tuning": "all"}, r"method.tuning must be one of \['first_task', 'none'\]"),
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny("ranpac", {f"method.{key}": value for key, value in changes.items()})
