"""Classifier alignment: all heads trained again on features drawn from a Gaussian per class."""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainables.heads.linear import TaskHeads

# The published setting, beside what HeadFields lets a study choose.
MOMENTUM = 0.9
WEIGHT_DECAY = 5e-4
OLDEST_SCALE = 0.9
NORM_FLOOR = 1e-14


class ClassifierAlignment:
    """A Gaussian over the features of each class, from the end of its task (InfLoRA+CA).

    Features are those that the linear heads read, after `TaskHeads.prepared`: before a layer norm
    the scaling of means would have no effect. Kept are the mean (d,) and a factor R
    (≤ min(n, d), d) with RᵀR the covariance of the n features: its upper triangle, in float32.
    Each epoch draws `samples` features of every class seen and trains all heads on them, in
    batches of as many. `logit_norm` is what logits are normalised to (None: not at all), and
    `ridge` what is added to each variance.
    """

    def __init__(
        self,
        samples: int,
        epochs: int,
        lr: float,
        device: torch.device,
        generator: torch.Generator,
        logit_norm: float | None = 0.1,
        ridge: float = 1e-4,
    ) -> None:
        self._samples = samples
        self._epochs = epochs
        self._lr = lr
        self._logit_norm = logit_norm
        self._ridge = ridge
        self._device = device
        self._generator = generator
        self._means: list[Tensor] = []
        self._factors: list[Tensor] = []

    @property
    def bytes(self) -> int:
        """Size of all means and factors in bytes."""
        return sum(tensor.nbytes for tensor in (*self._means, *self._factors))

    def remember(self, features: Tensor, labels: Tensor, classes: range) -> None:
        """Takes in the features (n, d) of a task, whose labels cover `classes`."""
        for label in classes:
            own = features[labels == label].double().cpu()
            mean = own.mean(0)
            spread = (own - mean) / max(1, len(own) - 1) ** 0.5
            # (min(n, d), d): a task of few images needs no d × d matrix.
            factor = torch.linalg.qr(spread, mode="r").R
            self._means.append(mean.float())
            upper = torch.triu_indices(*factor.shape)
            self._factors.append(factor[upper[0], upper[1]].float())

    def factor(self, label: int) -> Tensor:
        """R (≤ min(n, d), d) of a class."""
        triangle, width = self._factors[label], len(self._means[label])
        # Of k rows the triangle holds k · width − k (k − 1) / 2 numbers.
        twice = 2 * width + 1
        rows = round((twice - math.sqrt(twice**2 - 8 * len(triangle))) / 2)
        upper = torch.triu_indices(rows, width)
        factor = triangle.new_zeros(rows, width)
        factor[upper[0], upper[1]] = triangle
        return factor

    def sample(self, label: int, scale: float, count: int) -> Tensor:
        """Draws (count, d) features of a class around `scale` times its mean.

        Their covariance is RᵀR + `ridge` · I.
        """
        mean, factor = self._means[label], self.factor(label)
        along = torch.randn(count, factor.shape[0], generator=self._generator)
        ridge = torch.randn(count, factor.shape[1], generator=self._generator)
        return scale * mean + along @ factor + math.sqrt(self._ridge) * ridge

    def align(self, heads: TaskHeads) -> None:
        """Trains the heads of two tasks or more; FloatingPointError if the loss is not finite."""
        tasks = heads.tasks
        if len(tasks) < 2:
            return
        # One matrix for all heads: a step costs the same after any number of tasks.
        joined = [tensor.detach().clone().requires_grad_() for tensor in heads.joined()]
        task_of_class = torch.cat(
            [torch.full((len(classes),), t) for t, classes in enumerate(tasks)]
        )
        membership = functional.one_hot(task_of_class).to(joined[0])
        optimizer = torch.optim.SGD(
            joined, lr=self._lr, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY
        )
        for epoch in range(self._epochs):
            for group in optimizer.param_groups:
                group["lr"] = self._lr * 0.5 * (1.0 + math.cos(math.pi * epoch / self._epochs))
            features, labels = (tensor.to(self._device) for tensor in self._draw(tasks))
            order = torch.randperm(len(labels), generator=self._generator).to(self._device)
            for batch in order.split(self._samples):
                logits = heads.scores(features[batch], *joined)
                if self._logit_norm is not None:
                    logits = normalised(logits, membership, self._logit_norm)
                loss = functional.cross_entropy(logits, labels[batch])
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
            if not math.isfinite(float(loss.detach())):
                raise FloatingPointError(
                    f"the loss of classifier alignment must be finite, but it is "
                    f"{float(loss.detach())}; a smaller method.align_lr may help."
                )
        heads.overwrite(*(tensor.detach() for tensor in joined))

    def state_dict(self) -> dict[str, Any]:
        """Means and factors by class."""
        return {"means": list(self._means), "factors": list(self._factors)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over what `state_dict` gave."""
        self._means, self._factors = list(state["means"]), list(state["factors"])

    def _draw(self, tasks: list[range]) -> tuple[Tensor, Tensor]:
        """`samples` features of every class and their labels; means of older tasks shrink."""
        features, labels = [], []
        for index, classes in enumerate(tasks):
            scale = OLDEST_SCALE + (1.0 - OLDEST_SCALE) * (index + 1) / len(tasks)
            for label in classes:
                features.append(self.sample(label, scale, self._samples))
                labels.append(torch.full((self._samples,), label))
        return torch.cat(features), torch.cat(labels)


@torch.no_grad()
def features_of(model: nn.Module, batches: Iterable[Tensor]) -> Tensor:
    """Features (n, d) of all images in `batches`."""
    return torch.cat([model(images) for images in batches])


def normalised(logits: Tensor, membership: Tensor, logit_norm: float) -> Tensor:
    """Logits (n, classes) at a mean norm, over tasks, of a task's logits of 1 / `logit_norm`.

    `membership` (classes, tasks) is 1 where a class is of a task and 0 elsewhere.
    """
    # A task whose logits are all zero would otherwise have no gradient.
    norms = (logits.square() @ membership + NORM_FLOOR).sqrt()
    return logits / norms.mean(1, keepdim=True) / logit_norm
