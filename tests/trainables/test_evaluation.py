"""Diagnoses: what they measure; search trials do not pay for them; they change nothing."""

from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch

from tests.trainables.test_readout import by_hand
from tests.trainables.trials import comparable, results_of, run, same, tiny, trained, weights
from trainables import evaluation
from trainables.config import catalog
from trainables.data.stream import joined
from trainables.evaluation import Watch
from trainables.trainer import SequentialTrainer, TaskResult

CONFIRM = {"data.evaluation": "test"}
WATCHED = {**CONFIRM, "evaluation.during": 1}
DIAGNOSED = ("lost/heads", "lost/inference", "readout_accuracy")
OF_EVERY_TASK = ("average_anytime_accuracy", "plasticity", "forgetting", "backward_transfer")
WHILE_LEARNING = ("minimum_accuracy", "stability_gap")


def test_the_read_out_is_of_the_final_network_and_of_all_training_images() -> None:
    trainer = trained("inflora", CONFIRM)
    train, test = (
        joined([getattr(task, part) for task in trainer._stream]) for part in ("train", "held_out")
    )
    with torch.no_grad():
        features, shown = (trainer._model(part.images / 255.0).double() for part in (train, test))
    _, weight = by_hand(features, train.labels, 12)
    means = torch.stack([features[train.labels == label].mean(0) for label in range(12)])
    told = torch.cdist(shown @ weight, means @ weight).argmin(1)
    expected = float((told == test.labels).double().mean())
    last = results_of("inflora", CONFIRM)[-1].metrics
    assert last["test/readout_accuracy"] == expected
    assert last["test/lost/heads"] == expected - last["test/accuracy"]
    known = last["test/task_known_accuracy"]
    assert last["test/lost/inference"] == known - last["test/accuracy"]


@pytest.mark.parametrize("changes", [{"evaluation.during": 1}, {**WATCHED, "diagnostics": False}])
def test_who_does_not_confirm_or_asks_for_none_pays_for_none(
    changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    never = Mock(side_effect=AssertionError)
    monkeypatch.setattr(evaluation, "fit_read_out", never)
    if "diagnostics" not in changes:
        monkeypatch.setattr(evaluation.Evaluator, "per_task", never)
    for result in results_of("inflora", changes):
        assert not [name for name in result.metrics if name.split("/", 1)[1] in DIAGNOSED]


@pytest.mark.slow
@pytest.mark.parametrize("method", catalog.methods())
def test_measuring_changes_no_bit(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    measured, plain = (SequentialTrainer(tiny(method, some)) for some in (WATCHED, CONFIRM))
    monkeypatch.setattr(plain, "_reads_out", lambda task: False)
    for found, without in zip(run(measured), run(plain), strict=True):
        ours, theirs = comparable(found), comparable(without)
        own = {f"test/{name}" for name in (*DIAGNOSED, *WHILE_LEARNING)}
        assert ours.keys() - theirs.keys() == own & ours.keys()
        assert theirs == {name: ours[name] for name in theirs}
        assert found.accuracy_row == without.accuracy_row
    states = [{**trainer._state(), "params": None, "lows": None} for trainer in (measured, plain)]
    assert same(*states)


@pytest.mark.parametrize("method", catalog.methods())
def test_it_is_known_whether_a_method_changed_the_network(method: str) -> None:
    """Features that are kept must be those of the network as it is."""
    trainer = SequentialTrainer(tiny(method, CONFIRM))
    before = {name: weight.clone() for name, weight in trainer._model.state_dict().items()}
    trainer.train_task()
    assert trainer._frozen.holds() == same(before, trainer._model.state_dict())


@pytest.mark.parametrize("method", ["linear_heads", "inflora"])
def test_a_network_that_never_changes_sees_no_held_out_image_again(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer, seen = SequentialTrainer(tiny(method, CONFIRM)), 0

    def counted(network: torch.nn.Module, images: tuple[torch.Tensor], _: Any) -> None:
        nonlocal seen
        seen += len(images[0])

    with trainer._model.network.register_forward_hook(counted):
        run(trainer)
        seen = 0
        trainer._evaluator.evaluate(trainer.tasks_seen)
    held_out = sum(len(task.held_out) for task in trainer._stream)
    assert seen == (0 if method == "linear_heads" else held_out) and held_out


@pytest.mark.parametrize("method", ["inflora", "dual_prompt", "nearest_mean"])
def test_what_is_evaluated_when_changes_nothing_else(method: str, tmp_path: Path) -> None:
    """After the second of four tasks and the last; with a stop between, and without."""
    every, some = (SequentialTrainer(tiny(method), evaluate_after=at) for at in (None, (2,)))
    of_all = run(every)
    found = run(some, 1)
    some.save(tmp_path)
    some = SequentialTrainer(tiny(method), evaluate_after=(2,))
    some.restore(tmp_path)
    found += run(some)
    ends = {"val/accuracy", "val/task_known_accuracy", "val/recency_bias"}
    of_every_task = {f"val/{name}" for name in OF_EVERY_TASK}
    for one, result in zip(of_all, found, strict=True):
        evaluated = result.task in (2, 4)
        assert result.accuracy_row == (one.accuracy_row if evaluated else ())
        ours, theirs = comparable(result), comparable(one)
        left_out = {name for name in theirs if name.startswith(("val/", "prompt/"))}
        assert theirs.keys() - ours.keys() <= left_out and ours.keys() <= theirs.keys()
        assert ours == {name: theirs[name] for name in ours}
        assert bool(ends <= ours.keys()) == evaluated and not of_every_task & ours.keys()
        assert evaluated == ("time/evaluate_seconds" in result.metrics)
    assert same(weights(every), weights(some))


def test_old_tasks_are_evaluated_every_so_many_steps() -> None:
    """Four steps a task, with the newest heads among the scores; the last look is after it."""

    def lows(every: int) -> list[TaskResult]:
        return results_of("inflora", {**CONFIRM, "evaluation.during": every})

    never, each = lows(5), lows(1)
    for task, (rare, often) in enumerate(zip(never, each, strict=True)):
        assert rare.accuracy_row == often.accuracy_row
        if not task:
            assert not {f"test/{name}" for name in WHILE_LEARNING} & often.metrics.keys()
            continue
        rows = [result.accuracy_row for result in never[: task + 1]]
        least = [min(row[old] for row in rows[old + 1 :]) for old in range(task)]
        drops = [
            max(0.0, *(rows[k - 1][old] - rows[k][old] for k in range(old + 1, task + 1)))
            for old in range(task)
        ]
        # A look after the task alone is what the accuracy matrix has.
        assert rare.metrics["test/minimum_accuracy"] == pytest.approx(sum(least) / task)
        assert rare.metrics["test/stability_gap"] == pytest.approx(sum(drops) / task)
        for name, sign in (("minimum_accuracy", 1), ("stability_gap", -1)):
            gain = rare.metrics[f"test/{name}"] - often.metrics[f"test/{name}"]
            assert sign * gain >= 0
    assert each[-1].metrics["test/stability_gap"] > never[-1].metrics["test/stability_gap"]
    assert each[-1].metrics["time/diagnose_seconds"] > 0


def test_a_watch_keeps_the_least_of_the_steps_it_looks_after() -> None:
    clock, evaluator = Mock(), Mock()
    evaluator.per_task.side_effect = [(0.8, 0.3), (0.6, 0.5)]
    watch = Watch(evaluator, 2, every=3, clock=clock)
    for _ in range(8):
        watch()
    assert watch.lows == (0.6, 0.3)
    assert [call.args[0] for call in clock.lap.call_args_list] == ["train", "diagnose"] * 2
    evaluator.per_task.assert_called_with(2)
