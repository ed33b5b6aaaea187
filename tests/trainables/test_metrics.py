import pytest
import torch

from trainables import metrics

MATRIX = [(0.9,), (0.7, 0.8), (0.8, 0.5, 0.6)]


def test_a_summary_has_every_metric_of_a_hand_computed_matrix() -> None:
    evaluation = metrics.Evaluation(0.61, MATRIX[-1], 0.95, 0.7)
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
    result = metrics.evaluate(logits, torch.tensor([0, 1, 2, 3]), tasks)
    assert result == metrics.Evaluation(0.5, (0.5, 0.5), 0.75, 0.75)


def test_the_first_task_has_no_forgetting() -> None:
    evaluation = metrics.Evaluation(0.9, (0.9,), 0.9, 1.0)
    values = metrics.summarise([(0.9,)], [0.9], evaluation, "val")
    assert values["val/average_anytime_accuracy"] == 0.9
    assert "val/forgetting" not in values


def test_a_gain_counts_below_nothing_or_as_released_nothing() -> None:
    matrix = [(0.5,), (0.6, 0.9), (0.8, 0.7, 0.6)]
    assert metrics.forgetting(matrix) == pytest.approx(((0.6 - 0.8) + (0.9 - 0.7)) / 2)
    assert metrics.forgetting_zero_gains(matrix) == pytest.approx((0 + (0.9 - 0.7)) / 2)
