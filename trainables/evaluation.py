"""What a trial is measured by: held-out images through network and scores, and diagnoses."""

import torch
from torch import Tensor

from trainables import metrics, usage
from trainables.backbones.adapted import AdaptedBackbone
from trainables.data.batches import FORWARD_BATCH, to_unit
from trainables.data.stream import ImageSet, TaskStream, joined
from trainables.low_rank.precision import network_products
from trainables.method import Method
from trainables.readout import ReadOut, fit_read_out


class Evaluator:
    """Pushes images of a stream through a network and a method's scores, as they stand.

    Nothing here changes them, or draws a random number.
    """

    def __init__(self, model: AdaptedBackbone, method: Method, stream: TaskStream) -> None:
        self._model = model
        self._method = method
        self._stream = stream
        self._held_out = joined([task.held_out for task in stream])

    @torch.no_grad()
    def evaluate(self, tasks: int, read_out: ReadOut | None = None) -> metrics.Evaluation:
        """Pushes each held-out image of the first `tasks` tasks through the network once.

        A `read_out` tells their classes as well. FloatingPointError if a score is not finite.
        """
        held_out = self._of_first(tasks)
        scores, told = [], []
        for batch in held_out.batches(FORWARD_BATCH):
            features = self._features(batch)
            scores.append(self._scores(features))
            if read_out is not None:
                told.append(read_out.told(features))
        every = torch.cat(scores)
        if not bool(torch.isfinite(every).all()):
            raise FloatingPointError(
                f"scores must be finite, but they are not after task {tasks}; "
                f"a smaller optim.lr may help."
            )
        classes = [task.classes for task in self._stream.tasks[:tasks]]
        return metrics.evaluate(every, held_out.labels, classes, torch.cat(told) if told else None)

    @torch.no_grad()
    def per_task(self, tasks: int) -> tuple[float, ...]:
        """The accuracy on each of the first `tasks` tasks, also while a later one is trained."""
        held_out = self._of_first(tasks)
        told = [
            self._scores(self._features(batch)).argmax(1)
            for batch in held_out.batches(FORWARD_BATCH)
        ]
        right = (torch.cat(told) == held_out.labels).double()
        sizes = [len(task.held_out) for task in self._stream.tasks[:tasks]]
        return tuple(float(own.mean()) for own in right.split(sizes))

    @torch.no_grad()
    def fit_read_out(self) -> ReadOut:
        """Fits the read-out of the training images of all tasks, as they are for a test.

        A diagnosis that no learner may use. FloatingPointError if a feature is not finite.
        """
        train = joined([task.train for task in self._stream])
        features = (self._features(batch) for batch in train.batches(FORWARD_BATCH))
        return fit_read_out(features, train.labels, self._stream[-1].classes.stop)

    @torch.no_grad()
    def timed(self, most: int, device: torch.device) -> tuple[int, float]:
        """Evaluates up to `most` held-out images, for nothing; their number and the seconds."""
        images = self._held_out.first(min(most, len(self._held_out)))
        clock = usage.Clock(device)
        for batch in images.batches(FORWARD_BATCH):
            self._scores(self._features(batch))
        return len(images), clock.lap("evaluate")

    def _of_first(self, tasks: int) -> ImageSet:
        return self._held_out.first(sum(len(task.held_out) for task in self._stream.tasks[:tasks]))

    def _features(self, batch: Tensor) -> Tensor:
        """Features (n, width) of pixels, products of the network taken as in training."""
        with network_products(batch.device):
            features: Tensor = self._model(to_unit(batch))
        return features

    def _scores(self, features: Tensor) -> Tensor:
        """Scores (n, classes seen), products of the heads taken as in training."""
        with network_products(features.device):
            return self._method.logits(features)


class Watch:
    """Evaluates old tasks after every `every`-th step of a later one, and keeps the least.

    `lows` are the least accuracies of the `tasks` old ones, infinite before the first evaluation.
    Its seconds count as "diagnose" and not as "train".
    """

    def __init__(self, evaluator: Evaluator, tasks: int, every: int, clock: usage.Clock) -> None:
        self.lows = (float("inf"),) * tasks
        self._evaluator = evaluator
        self._every = every
        self._clock = clock
        self._steps = 0

    def __call__(self) -> None:
        """Takes note of a step."""
        self._steps += 1
        if self._steps % self._every or not self.lows:
            return
        self._clock.lap("train")
        self.lows = tuple(map(min, self.lows, self._evaluator.per_task(len(self.lows))))
        self._clock.lap("diagnose")
