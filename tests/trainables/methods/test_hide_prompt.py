"""HiDe-Prompt: two stages a task, statistics of classes, alignments."""

from collections.abc import Callable
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from torch import Tensor

from tests.trainables.draws import normal, seeded
from tests.trainables.trials import run, tiny, trained
from trainables.methods.hide_prompt import identity, method
from trainables.methods.hide_prompt.method import contrastive_loss, mixed
from trainables.methods.hide_prompt.statistics import ClassCentroids, align, k_means
from trainables.trainer import SequentialTrainer

FEW = {"optim.epochs": 1, "data.train_per_class": 4, "method.identity_epochs": 1}


def prompts_of(trainer: SequentialTrainer) -> list[Tensor]:
    own: Any = trainer._method
    return [prompt.detach().clone() for prompt in own.prompts]


def test_the_mix_by_hand() -> None:
    earlier = torch.tensor([[1.0, 0.0], [3.0, 2.0]])
    found = mixed(torch.tensor([5.0, 7.0]), earlier, 0.01)
    assert found.tolist() == pytest.approx([4.970000, 6.940000], abs=1e-6)


@pytest.mark.parametrize(
    ("square", "loss"), [(1, 4.677649), (4, 2.852723), (16, 0.008994), (64, 8e-16)]
)
def test_the_contrastive_loss_vanishes_on_long_features(square: float, loss: float) -> None:
    """200 rows of cosine 0.5 to each other, by their squared length."""
    gram = square * (0.5 * torch.eye(200, dtype=torch.float64) + 0.5)
    rows = torch.linalg.cholesky(gram).requires_grad_()
    found = contrastive_loss(rows, 0.8)
    assert float(found.detach()) == pytest.approx(loss, abs=1e-6 if square < 64 else 1e-16)
    found.backward()
    assert rows.grad is not None
    assert (float(rows.grad.norm()) > 1e-4) == (square < 64)


def test_one_row_has_nothing_to_be_driven_from() -> None:
    row = torch.ones(1, 3, requires_grad=True)
    loss = contrastive_loss(row, 0.8)
    loss.backward()
    assert float(loss.detach()) == 0 and row.grad is not None and not bool(row.grad.any())


def test_an_unseen_task_is_never_named() -> None:
    """Scores (2, 1, 0, 5) of which three are of a task that was seen."""
    trainer = SequentialTrainer(tiny("hide_prompt"))
    own: Any = trainer._method
    told = own.identity
    told.open(3)
    with torch.no_grad():
        told._heads._heads[0].weight.zero_()
        told._heads._heads[0].bias.copy_(torch.tensor([2.0, 1.0, 0.0]))
    queries = torch.zeros(2, 16)
    assert told.logits(queries).argmax(1).tolist() == [0, 0]
    assert told.told(queries).tolist() == [0, 0]
    told.open(1)
    with torch.no_grad():
        told._heads._heads[1].weight.zero_()
        told._heads._heads[1].bias.fill_(5.0)
    assert told.logits(queries).argmax(1).tolist() == [3, 3]
    assert told.told(queries).tolist() == [1, 1]


def test_earlier_prompts_do_not_move_and_there_are_as_many_as_tasks() -> None:
    trainer = SequentialTrainer(tiny("hide_prompt", FEW))
    before: list[Tensor] = []
    for task in range(1, 5):
        result = trainer.train_task()
        after = prompts_of(trainer)
        assert len(after) == task
        assert all(torch.equal(was, now) for was, now in zip(before, after, strict=False))
        # Keys and values of 20 rows in two blocks of width 16.
        assert result.metrics["memory/prompt_bytes"] == task * 4 * 2 * 2 * 20 * 16
        before = after


def test_what_is_kept_is_the_prompt_that_was_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    """The share of earlier prompts is written into it: its features before are those after."""
    trainer = trained("hide_prompt", {**FEW, "method.mix": 0.3}, 2)
    own: Any = trainer._method
    task = trainer._stream[2]
    images = task.train.images / 255.0
    found: list[Tensor] = []
    real = own.end_task

    def end_task(*arguments: Any) -> dict[str, float]:
        with torch.no_grad():
            found.append(own.forward(trainer._model, images, task).features)
        raw = prompts_of(trainer)[-1]
        metrics: dict[str, float] = real(*arguments)
        assert not torch.equal(raw, prompts_of(trainer)[-1])
        with torch.no_grad():
            found.append(own._of_one(trainer._model, images, own.prompts[-1]))
        return metrics

    monkeypatch.setattr(own, "end_task", end_task)
    trainer.train_task()
    torch.testing.assert_close(found[0], found[1], atol=1e-6, rtol=1e-5)


def test_the_first_stage_trains_what_tells_the_task_and_the_second_the_prompt() -> None:
    trainer = trained("hide_prompt", {**FEW, "method.identity_epochs": 3}, 1)
    own: Any = trainer._method
    task = trainer._stream[1]
    groups, _ = own.begin_task(trainer._model, task, trainer._batches(task.train))
    first, second = own.stages(task)
    assert groups == [] and (first.epochs, second.epochs) == (3, None)
    telling = {id(parameter) for group in first.groups for parameter in group.parameters}
    prompting = {id(parameter) for group in second.groups for parameter in group.parameters}
    assert not telling & prompting
    assert id(own.prompts[1]) in prompting
    assert [group.lr for group in first.groups] == [1e-3]


def test_epochs_of_both_stages_count() -> None:
    changes = {**FEW, "data.evaluation": "test", "evaluation.during": 1, "optim.batch_size": 100}
    trainer = SequentialTrainer(tiny("hide_prompt", {**changes, "method.identity_epochs": 2}))
    looks = [load.diagnosed for load in trainer.workload]
    # 2 + 1 steps a task, each with a look at the test images of old tasks.
    assert looks[1] == 3 * len(trainer._stream[0].held_out)
    seen = Mock(side_effect=trainer._evaluator.per_task)
    trainer._evaluator.per_task = seen  # type: ignore[method-assign]
    run(trainer, 2)
    assert seen.call_count == 3


def test_alignments_change_classifiers_and_no_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def counted(module: Any) -> Callable[..., None]:
        real = module.align

        def aligned(*arguments: Any, **options: Any) -> None:
            before = prompts_of(trainer)
            real(*arguments, **options)
            assert all(map(torch.equal, before, prompts_of(trainer)))
            calls.append(options["old"])

        return aligned

    trainer = SequentialTrainer(tiny("hide_prompt", FEW))
    for module in (identity, method):
        monkeypatch.setattr(module, "align", counted(module))
    run(trainer, 1)
    # There is nothing to align with one task.
    assert calls == []
    own: Any = trainer._method
    before = own.state_dict()["heads"]["weights"][0].clone()
    run(trainer, 1)
    assert calls == [3, 3]
    assert not torch.equal(before, own.state_dict()["heads"]["weights"][0])


def test_clusters_of_well_parted_rows_are_found() -> None:
    centres = 100 * torch.eye(4, 6, dtype=torch.float64)
    rows = (centres[:, None] + normal(4, 25, 6)).flatten(0, 1)
    means, variances = k_means(rows, 4, seeded(3))
    assert means.shape == variances.shape == (len(means), 6)
    for mean in means:
        assert float((mean - centres).norm(dim=1).min()) < 60
    assert bool((variances >= 1e-4).all())
    (whole,), (spread,) = k_means(rows, 1, seeded(3))
    torch.testing.assert_close(whole, rows.mean(0))
    torch.testing.assert_close(spread, rows.var(0, correction=0))


@pytest.mark.parametrize("count", [1, 3])
def test_few_or_equal_images_are_no_error(count: int) -> None:
    means, variances = k_means(torch.ones(count, 5), 10, seeded(0))
    assert means.shape == (1, 5) and float(variances.max()) == pytest.approx(1e-4)


def kept_of(classes: int, generator: torch.Generator) -> ClassCentroids:
    kept = ClassCentroids(2, generator)
    features = 5 * torch.eye(classes, 6).repeat_interleave(8, 0)
    features = features + 0.1 * torch.randn(8 * classes, 6, generator=generator)
    kept.remember(features, torch.arange(classes).repeat_interleave(8), range(classes))
    return kept


def test_draws_are_around_the_centroids_of_their_class() -> None:
    kept = kept_of(3, seeded(0))
    features, labels = kept.draw(each=50, most=None)
    assert len(features) == 50 * 2 * 3 and torch.bincount(labels).tolist() == [100] * 3
    assert torch.equal(features[:, :3].argmax(1), labels)
    assert len(kept.draw(each=50, most=70)[0]) == 70


@pytest.mark.parametrize(("whole", "steps"), [(False, 2 * 4), (True, 2 * 6)])
def test_an_epoch_of_an_alignment_has_as_many_steps_as_old_classes_or_all(
    whole: bool, steps: int
) -> None:
    head = torch.nn.Linear(6, 3)
    scores = Mock(side_effect=head)
    align(
        scores, list(head.parameters()), kept_of(3, seeded(0)),
        old=4, epochs=2, lr=0.1, samples=5, whole=whole,
    )  # fmt: skip
    assert scores.call_count == steps
    assert all(not parameter.requires_grad for parameter in head.parameters())


def test_what_is_kept_grows_with_classes() -> None:
    """Of 3 images a class a centroid each at most, mean and variances, in both stages."""
    trainer = SequentialTrainer(tiny("hide_prompt", FEW))
    for task in range(1, 5):
        held = trainer.train_task().metrics["memory/subspace_bytes"]
        assert 0 < held <= 4 * 2 * (3 * task) * 3 * 2 * 16


def test_an_alignment_that_diverges_is_said() -> None:
    head = torch.nn.Linear(6, 3)
    with torch.no_grad():
        head.weight.fill_(float("inf"))
    with pytest.raises(FloatingPointError, match="the loss of an alignment must be finite"):
        align(
            head, list(head.parameters()), kept_of(3, seeded(0)),
            old=2, epochs=1, lr=0.1, samples=5, whole=False,
        )  # fmt: skip


def test_the_squared_length_of_features_is_recorded() -> None:
    """Without it nobody can tell whether the contrastive term does anything."""
    metrics = trained("hide_prompt", FEW, 1).train_task().metrics
    # A layer norm without training: the width.
    assert metrics["prompt/feature_square"] == pytest.approx(16, rel=0.01)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method.mix": 1.0}, r"method.mix must be in \[0, 1\), but got 1.0"),
        ({"method.temperature": 0.0}, "method.temperature must be a finite number above 0"),
        ({"method.centroids": 0}, "method.centroids must be at least 1"),
        ({"method.contrastive": -0.1}, "method.contrastive must be a finite number of at least 0"),
        ({"method.blocks": [5]}, r"method.blocks must be different numbers in \[0, 1\]"),
    ],
)
def test_values_out_of_range_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny("hide_prompt", changes)
