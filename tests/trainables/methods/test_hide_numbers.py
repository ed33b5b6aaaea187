"""HiDe-Prompt: further numbers by hand, of its mix, its contrastive term, schedules, alignments."""

import math
from typing import Any

import pytest
import torch

from tests.trainables.draws import seeded
from tests.trainables.methods.test_hide_prompt import FEW, kept_of
from tests.trainables.trials import tiny, trained
from trainables.fitting import stages_of
from trainables.methods.hide_prompt.method import contrastive_loss, mixed
from trainables.methods.hide_prompt.statistics import align
from trainables.trainer import SequentialTrainer


def test_the_mix_of_three_earlier_prompts_learns_by_its_own_share() -> None:
    prompt = torch.tensor([2.0, -2.0], requires_grad=True)
    earlier = torch.tensor([[4.0, 1.0], [8.0, 1.0], [0.0, 1.0]], requires_grad=True)
    found = mixed(prompt, earlier, 0.25)
    found.sum().backward()
    assert found.tolist() == [2.5, -1.25]
    assert prompt.grad is not None and prompt.grad.tolist() == [0.75, 0.75]
    assert earlier.grad is None


@pytest.mark.parametrize(
    ("count", "cosine", "square", "temperature"),
    [(7, 0.3, 2.0, 0.8), (30, -0.02, 3.0, 0.5), (64, 0.9, 16.0, 0.8), (2, 0.0, 1.0, 1.0)],
)
def test_the_contrastive_loss_of_rows_of_one_cosine(
    count: int, cosine: float, square: float, temperature: float
) -> None:
    """n rows of squared length s and cosine c: log(1 + (n − 1) exp(s (c − 1) / τ))."""
    eye = torch.eye(count, dtype=torch.float64)
    rows = torch.linalg.cholesky(square * (eye + cosine * (1 - eye)))
    expected = math.log1p((count - 1) * math.exp(square * (cosine - 1) / temperature))
    found = float(contrastive_loss(rows, temperature))
    assert found == pytest.approx(expected, rel=1e-9)
    # Its own row is the answer of a softmax over all rows.
    labels = torch.arange(count)
    other = torch.nn.functional.cross_entropy(rows @ rows.T / temperature, labels)
    assert found == pytest.approx(float(other), rel=1e-9)


@pytest.mark.parametrize(
    ("changes", "schedule"), [({}, "cosine"), ({"preset": "released"}, "constant")]
)
def test_what_tells_the_task_has_a_schedule_of_its_own(
    changes: dict[str, Any], schedule: str
) -> None:
    """As released a constant one, whatever that of the prompt is."""
    steps = {"optim.schedule": "step", "optim.milestones": [1], "method.identity_epochs": 3}
    trainer = SequentialTrainer(tiny("hide_prompt", {**FEW, **changes, **steps}))
    own: Any = trainer._method
    task, optim = trainer._stream[0], trainer.config.optim
    own.begin_task(trainer._model, task, trainer._batches(task.train))
    (_, first), (_, second) = stages_of(own, [], task, optim)
    assert (first.schedule, first.milestones, first.epochs) == (schedule, (), 3)
    assert second == optim


def test_the_rate_of_an_alignment_falls_as_a_cosine_over_its_epochs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rates: list[float] = []
    real = torch.optim.SGD.step

    def step(optimizer: torch.optim.SGD, *arguments: Any) -> Any:
        rates.append(optimizer.param_groups[0]["lr"])
        assert optimizer.param_groups[0]["momentum"] == 0.9
        assert optimizer.param_groups[0]["weight_decay"] == 0
        return real(optimizer, *arguments)

    monkeypatch.setattr(torch.optim.SGD, "step", step)
    head = torch.nn.Linear(6, 3)
    align(
        head, list(head.parameters()), kept_of(3, seeded(0)),
        old=2, epochs=4, lr=0.2, samples=5, whole=False,
    )  # fmt: skip
    # Two steps an epoch: as many as old classes.
    expected = [0.2, 0.170711, 0.1, 0.029289]
    assert rates[::2] == rates[1::2] == pytest.approx(expected, abs=1e-6)


def test_an_alignment_leaves_heads_of_classes_to_come_as_they_were() -> None:
    changes = {**FEW, "method.test_classes": "all", "method.head_init": "linear"}
    trainer = trained("hide_prompt", changes, 1)
    own: Any = trainer._method

    def weights() -> list[torch.Tensor]:
        return [weight.clone() for weight in own.state_dict()["heads"]["weights"]]

    before = weights()
    trainer.train_task()
    same = [torch.equal(was, now) for was, now in zip(before, weights(), strict=True)]
    assert same == [False, False, True, True]
