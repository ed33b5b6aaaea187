from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from trainables.config import TrialConfig
from trainables.data.batches import to_unit
from trainables.trainer import SequentialTrainer, TaskResult

MakeConfig = Callable[..., TrialConfig]


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_nearest_mean_is_the_classification_by_hand(metric: str, tiny: MakeConfig) -> None:
    trainer = SequentialTrainer(tiny("nearest_mean", {"method.metric": metric}))
    stream, model = trainer._stream, trainer._model
    results: list[TaskResult] = []
    while not trainer.done:
        results.append(trainer.train_task())
    assert all("train/loss" not in result.metrics for result in results)

    def features(images: Tensor) -> Tensor:
        with torch.no_grad():
            return torch.stack([model(to_unit(one[None]))[0].double() for one in images])

    means = [
        features(task.train.images[task.train.labels == label]).mean(0)
        for task in stream
        for label in task.classes
    ]
    for row, task in zip(results[-1].accuracy_row, stream, strict=True):
        hits = []
        for feature, label in zip(
            features(task.held_out.images), task.held_out.labels.tolist(), strict=True
        ):
            if metric == "cosine":
                scores = [float(functional.cosine_similarity(feature, m, dim=0)) for m in means]
            else:
                scores = [-float((feature - m).square().sum()) for m in means]
            hits.append(scores.index(max(scores)) == label)
        assert row == pytest.approx(sum(hits) / len(hits))
    assert results[-1].metrics["val/accuracy"] > 0.5


def test_the_two_metrics_of_nearest_mean_score_what_they_say(tiny: MakeConfig) -> None:
    means = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    feature = torch.tensor([[3.0, 4.0]])
    scores = {}
    for metric in ("cosine", "euclidean"):
        method = SequentialTrainer(tiny("nearest_mean", {"method.metric": metric}))._method
        method.load_state_dict({"means": means})
        scores[metric] = method.logits(feature)
    torch.testing.assert_close(scores["cosine"], torch.tensor([[0.6, 0.8]]))
    torch.testing.assert_close(scores["euclidean"], torch.tensor([[-20.0, -13.0]]))
