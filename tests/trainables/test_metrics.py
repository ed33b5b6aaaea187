import math

import pytest
import torch

from trainables import metrics

MATRIX = [(0.9,), (0.7, 0.8), (0.8, 0.5, 0.6)]


def test_a_summary_has_every_metric_of_a_hand_computed_matrix() -> None:
    evaluation = metrics.Evaluation(0.61, MATRIX[-1], 0.95, 0.7, 0.2, readout_accuracy=0.8)
    values = metrics.summarise(MATRIX, [0.9, 0.74, 0.61], evaluation, "test")
    assert values == pytest.approx(
        {
            "test/accuracy": 0.61,
            "test/average_anytime_accuracy": 0.75,
            "test/forgetting": ((0.9 - 0.8) + (0.8 - 0.5)) / 2,
            "test/forgetting_zero_gains": ((0.9 - 0.8) + (0.8 - 0.5)) / 2,
            "test/backward_transfer": ((0.8 - 0.9) + (0.5 - 0.8)) / 2,
            "test/plasticity": (0.9 + 0.8 + 0.6) / 3,
            "test/task_known_accuracy": 0.95,
            "test/task_prediction_accuracy": 0.7,
            "test/recency_bias": 0.2,
            "test/readout_accuracy": 0.8,
            "test/lost/heads": 0.8 - 0.61,
            "test/lost/inference": 0.95 - 0.61,
        }
    )


def test_tasks_stay_in_numeric_order_beyond_a_hundred_classes() -> None:
    """The released SD-LoRA code sorts task labels as strings, "100" before "20"."""
    tasks = [range(10 * t, 10 * t + 10) for t in range(12)]
    labels = torch.arange(120)
    # Of the ten classes of task t, the first 10 - t % 10 are told right.
    right = labels % 10 < 10 - (labels // 10) % 10
    predicted = torch.where(right, labels, (labels + 1) % 120)
    logits = torch.nn.functional.one_hot(predicted, 120).float()
    per_task = metrics.evaluate(logits, labels, tasks).per_task
    expected = [1 - 0.1 * (t % 10) for t in range(12)]
    assert per_task == pytest.approx(expected)
    # Every task was told perfectly right before.
    matrix = [tuple(1.0 for _ in range(t + 1)) for t in range(11)]
    lost = sum(1 - share for share in expected[:-1]) / 11
    assert metrics.forgetting([*matrix, per_task]) == pytest.approx(lost)


def test_evaluation_by_hand() -> None:
    tasks = [range(0, 2), range(2, 4)]
    # Right; wrong task, but right within its own; right task, but wrong class; right.
    logits = torch.tensor([[3.0, 1, 0, 0], [1.0, 2, 3, 0], [0.0, 0, 1, 2], [0.0, 0, 0, 5]])
    labels = torch.tensor([0, 1, 2, 3])
    result = metrics.evaluate(logits, labels, tasks)
    # Of the two images of the old task one goes to the newest task's classes.
    assert result == metrics.Evaluation(0.5, (0.5, 0.5), 0.75, 0.75, 0.5)
    told = torch.tensor([0, 1, 2, 0])
    assert metrics.evaluate(logits, labels, tasks, told).readout_accuracy == 0.75


def test_images_given_to_classes_that_were_never_seen_are_told_wrong() -> None:
    logits = torch.tensor([[3.0, 1, 0, 9], [1.0, 2, 3, 0], [0.0, 0, 1, 0]])
    result = metrics.evaluate(logits, torch.tensor([0, 1, 2]), [range(0, 2), range(2, 3)])
    # The first goes to class 3, of a task to come; within its own task it is right.
    assert result == metrics.Evaluation(1 / 3, (0.0, 1.0), 1.0, 1 / 3, 0.5)


def test_what_was_chosen_by_hand() -> None:
    logits, labels = torch.eye(4), torch.arange(4)
    tasks = [range(0, 2), range(2, 4)]
    chosen = torch.tensor([[1, 0], [0, 1], [0, 1], [0, 1]], dtype=torch.bool)
    choice = metrics.evaluate(logits, labels, tasks, chosen=chosen, by_task=True).choice
    assert choice == metrics.Choice((0.25, 0.75), right=0.75)
    entropy = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    assert choice.summary() == {
        "prompt/used": 2.0,
        "prompt/used_equally": pytest.approx(math.exp(entropy)),
        "prompt/chosen/task_01": 0.25,
        "prompt/chosen/task_02": 0.75,
        "prompt/task_inferred": 0.75,
    }
    # Two prompts an image, of a pool of three.
    pool = torch.tensor([[1, 1, 0]] * 4, dtype=torch.bool)
    other = metrics.evaluate(logits, labels, tasks, chosen=pool).choice
    assert other == metrics.Choice((1.0, 1.0, 0.0), right=None)
    assert other.summary()["prompt/used_equally"] == pytest.approx(2)
    assert other.summary()["prompt/chosen/prompt_03"] == 0


def test_the_first_task_has_no_forgetting() -> None:
    evaluation = metrics.Evaluation(0.9, (0.9,), 0.9, 1.0)
    values = metrics.summarise([(0.9,)], [0.9], evaluation, "val")
    assert values["val/average_anytime_accuracy"] == 0.9
    assert not {"val/forgetting", "val/recency_bias", "val/readout_accuracy"} & values.keys()


def test_a_gain_counts_below_nothing_or_as_released_nothing() -> None:
    matrix = [(0.5,), (0.6, 0.9), (0.8, 0.7, 0.6)]
    assert metrics.forgetting(matrix) == pytest.approx(((0.6 - 0.8) + (0.9 - 0.7)) / 2)
    assert metrics.forgetting_zero_gains(matrix) == pytest.approx((0 + (0.9 - 0.7)) / 2)


def test_what_old_tasks_fall_to_while_later_ones_are_learned() -> None:
    """Task 1 falls from 0.9 to 0.4 in task 2, and from 0.7 to 0.3 in task 3; task 2 only gains."""
    lows = [(), (0.4,), (0.3, 0.85)]
    matrix = [(0.9,), (0.7, 0.8), (0.8, 0.9, 0.6)]
    assert metrics.while_learning(matrix, lows, "test") == pytest.approx(
        {
            "test/minimum_accuracy": (0.3 + 0.85) / 2,
            "test/stability_gap": (max(0.9 - 0.4, 0.7 - 0.3) + 0.0) / 2,
        }
    )
    assert metrics.while_learning(matrix[:1], lows[:1], "test") == {}
