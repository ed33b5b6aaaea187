import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tests.trainables.trials import run, tiny
from trainables.data.batches import to_unit
from trainables.trainer import SequentialTrainer


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_nearest_mean_is_the_classification_by_hand(metric: str) -> None:
    trainer = SequentialTrainer(tiny("nearest_mean", {"method.metric": metric}))
    stream, model = trainer._stream, trainer._model
    results = run(trainer)
    assert all("train/loss" not in result.metrics for result in results)

    @torch.no_grad()
    def features(images: Tensor) -> Tensor:
        return torch.cat([model(to_unit(image[None])).double() for image in images])

    means = torch.stack(
        [
            features(task.train.images[task.train.labels == label]).mean(0)
            for task in stream
            for label in task.classes
        ]
    )
    for row, task in zip(results[-1].accuracy_row, stream, strict=True):
        seen = features(task.held_out.images)[:, None]
        if metric == "cosine":
            scores = functional.cosine_similarity(seen, means, dim=2)
        else:
            scores = -(seen - means).square().sum(2)
        hits = scores.argmax(1) == task.held_out.labels
        assert row == pytest.approx(float(hits.double().mean()))
    assert results[-1].metrics["val/accuracy"] > 0.5


def test_the_two_metrics_of_nearest_mean_score_what_they_say() -> None:
    means = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    feature = torch.tensor([[3.0, 4.0]])
    scores = {}
    for metric in ("cosine", "euclidean"):
        method = SequentialTrainer(tiny("nearest_mean", {"method.metric": metric}))._method
        method.load_state_dict({"means": means})
        scores[metric] = method.logits(feature)
    torch.testing.assert_close(scores["cosine"], torch.tensor([[0.6, 0.8]]))
    torch.testing.assert_close(scores["euclidean"], torch.tensor([[-20.0, -13.0]]))
