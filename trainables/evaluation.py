"""What a trial is measured by: held-out images through network and scores, and diagnoses."""

import itertools
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from trainables import metrics, usage
from trainables.backbones.adapted import AdaptedBackbone
from trainables.data.batches import FORWARD_BATCH, to_unit
from trainables.data.stream import ImageSet, TaskStream, joined
from trainables.frozen import FrozenFeatures
from trainables.low_rank.precision import network_products
from trainables.method import Method, Prompting, Scored
from trainables.readout import ReadOut, fit_read_out


class Evaluator:
    """Pushes images of a stream through a network and a method's scores, as they stand.

    Nothing here changes them, or draws a random number.
    """

    def __init__(
        self,
        model: AdaptedBackbone,
        method: Method,
        stream: TaskStream,
        frozen: FrozenFeatures | None = None,
    ) -> None:
        self._model = model
        self._method = method
        self._stream = stream
        self._held_out = joined([task.held_out for task in stream])
        self._frozen = FrozenFeatures(model) if frozen is None else frozen
        # By task: features of the pretrained network, which never change.
        self._pretrained: dict[int, Tensor] = {}

    @torch.no_grad()
    def evaluate(self, tasks: int, read_out: ReadOut | None = None) -> metrics.Evaluation:
        """Pushes each held-out image of the first `tasks` tasks through the network once.

        A `read_out` tells their classes as well. FloatingPointError if a score is not finite.
        """
        scores, told, chosen = [], [], []
        for scored in self._scored_of_first(tasks):
            scores.append(scored.logits)
            if read_out is not None:
                told.append(read_out.told(scored.features))
            if scored.chosen is not None:
                chosen.append(scored.chosen)
        every = torch.cat(scores)
        if not bool(torch.isfinite(every).all()):
            raise FloatingPointError(
                f"scores must be finite, but they are not after task {tasks}; "
                f"a smaller optim.lr may help."
            )
        return metrics.evaluate(
            every,
            self._of_first(tasks).labels,
            [task.classes for task in self._stream.tasks[:tasks]],
            torch.cat(told) if told else None,
            torch.cat(chosen) if chosen else None,
            isinstance(self._method, Prompting) and self._method.chosen_are == "task",
        )

    @torch.no_grad()
    def per_task(self, tasks: int) -> tuple[float, ...]:
        """The accuracy on each of the first `tasks` tasks, also while a later one is trained."""
        told = [scored.logits.argmax(1) for scored in self._scored_of_first(tasks)]
        right = (torch.cat(told) == self._of_first(tasks).labels).double()
        sizes = [len(task.held_out) for task in self._stream.tasks[:tasks]]
        return tuple(float(own.mean()) for own in right.split(sizes))

    @torch.no_grad()
    def fit_read_out(self) -> ReadOut:
        """Fits the read-out of the training images of all tasks, as they are for a test.

        A diagnosis that no learner may use. FloatingPointError if a feature is not finite.
        """
        train = joined([task.train for task in self._stream])
        known = self._frozen.of(train) if self._reads_known else None
        features = (scored.features for scored in self._scored_all(train, known))
        return fit_read_out(features, train.labels, self._stream[-1].classes.stop)

    @torch.no_grad()
    def timed(self, most: int, device: torch.device) -> tuple[int, float]:
        """Evaluates up to `most` held-out images, for nothing; their number and the seconds.

        Features of the pretrained network that a method reads are known before, as for all images
        of old tasks.
        """
        images = self._held_out.first(min(most, len(self._held_out)))
        ends = itertools.accumulate(len(task.held_out) for task in self._stream)
        known = self._known_of_first(1 + sum(end < len(images) for end in ends))
        clock = usage.Clock(device)
        for _ in self._scored_all(images, known):
            pass
        return len(images), clock.lap("evaluate")

    def _of_first(self, tasks: int) -> ImageSet:
        return self._held_out.first(sum(len(task.held_out) for task in self._stream.tasks[:tasks]))

    def _scored_of_first(self, tasks: int) -> Iterator[Scored]:
        """The held-out images of the first `tasks` tasks, batch by batch."""
        yield from self._scored_all(self._of_first(tasks), self._known_of_first(tasks))

    def _scored_all(self, images: ImageSet, known: Tensor | None) -> Iterator[Scored]:
        """Scores and features of images, products of network and heads taken as in training.

        `known` are their features in the pretrained network, or those of more images: a prompting
        method's queries; another method's features, for which no pixels are read.
        """
        parts: Iterable[Tensor | None] = itertools.repeat(None)
        if known is not None:
            parts = known[: len(images)].split(FORWARD_BATCH)
        if known is not None and not isinstance(self._method, Prompting):
            for own in parts:
                yield self._scored(None, own)
            return
        # Where there are parts, as many as batches.
        for batch, own in zip(images.batches(FORWARD_BATCH), parts, strict=False):
            yield self._scored(to_unit(batch), own)

    def _scored(self, images: Tensor | None, known: Tensor | None) -> Scored:
        given = known if images is None else images
        assert given is not None
        with network_products(given.device):
            if isinstance(self._method, Prompting):
                return self._method.forward(self._model, given, None, known)
            features = given if images is None else self._model(given)
            return Scored(self._method.logits(features), features, features.new_zeros(()))

    @property
    def _reads_known(self) -> bool:
        """Whether features of the pretrained network are of use: as queries, or as they are."""
        return isinstance(self._method, Prompting) or self._frozen.holds()

    def _known_of_first(self, tasks: int) -> Tensor | None:
        """Features (n, width) of the held-out images of the first tasks in the pretrained network.

        None unless they are of use: to a prompting method, or where the network is that one still.
        """
        if not self._reads_known:
            return None
        for task in self._stream.tasks[:tasks]:
            if task.index not in self._pretrained:
                self._pretrained[task.index] = self._frozen.of(task.held_out)
        return torch.cat([self._pretrained[index] for index in range(tasks)])


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
