"""What is kept of the features of each class, and classifiers trained again on draws from it."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

MOMENTUM = 0.9
LEAST_VARIANCE = 1e-4
MOST_ROUNDS = 50


class ClassCentroids:
    """Centroids of the features of every class, each with the variances of what is nearest to it.

    By k-means; a class of fewer images than centroids has one for each different feature. Kept on
    the CPU: means and variances (m, width) of the m centroids of each class.
    """

    def __init__(self, most: int, generator: torch.Generator) -> None:
        self._most = most
        self._generator = generator
        self._means: list[Tensor] = []
        self._variances: list[Tensor] = []

    @property
    def bytes(self) -> int:
        """Size of all means and variances in bytes."""
        return sum(tensor.nbytes for tensor in (*self._means, *self._variances))

    def means(self) -> Tensor | None:
        """All centroids (m, width); None while there are none."""
        return torch.cat(self._means) if self._means else None

    def remember(self, features: Tensor, labels: Tensor, classes: range) -> None:
        """Takes in the features (n, width) of a task, whose labels cover `classes`."""
        features, labels = features.cpu(), labels.cpu()
        for label in classes:
            means, variances = k_means(features[labels == label], self._most, self._generator)
            self._means.append(means)
            self._variances.append(variances)

    def draw(self, each: int, most: int | None) -> tuple[Tensor, Tensor]:
        """`each` features around every centroid with their labels, shuffled; at most `most`."""
        means, variances = torch.cat(self._means), torch.cat(self._variances)
        counts = torch.tensor([len(rows) for rows in self._means])
        labels = torch.repeat_interleave(torch.arange(len(counts)), counts)
        order = torch.randperm(each * len(means), generator=self._generator)[:most]
        of = order // each
        noise = torch.randn(len(of), means.shape[1], generator=self._generator)
        return means[of] + variances[of].sqrt() * noise, labels[of]

    def state_dict(self) -> dict[str, Any]:
        """Means and variances by class."""
        return {"means": list(self._means), "variances": list(self._variances)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over what `state_dict` gave."""
        self._means, self._variances = list(state["means"]), list(state["variances"])


def k_means(rows: Tensor, most: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Means and variances (m, width) of at most `most` clusters of rows (n, width), none empty.

    Begins with rows drawn at random and goes on until no row changes its cluster. Variances are at
    least 1e-4, also of a cluster of one row.
    """
    centres = rows[torch.randperm(len(rows), generator=generator)[:most]]
    nearest = torch.full((len(rows),), -1)
    for _ in range(MOST_ROUNDS):
        before, nearest = nearest, torch.cdist(rows, centres).argmin(1)
        if torch.equal(before, nearest):
            break
        centres = torch.stack([rows[nearest == number].mean(0) for number in nearest.unique()])
        # Clusters that ran empty are gone: those left are counted anew.
        nearest = nearest.unique(return_inverse=True)[1]
    clusters = [rows[nearest == number] for number in nearest.unique()]
    means = torch.stack([own.mean(0) for own in clusters])
    variances = torch.stack([own.var(0, correction=0) for own in clusters])
    return means, variances.clamp(min=LEAST_VARIANCE)


def align(
    scores: Callable[[Tensor], Tensor],
    parameters: Sequence[nn.Parameter],
    kept: ClassCentroids,
    *,
    old: int,
    epochs: int,
    lr: float,
    samples: int,
    whole: bool,
) -> None:
    """Trains `parameters` so that `scores` of features drawn from `kept` tell their class.

    Each epoch goes over `samples` features a centroid in steps of as many, or takes no more than
    `old` steps unless it is the `whole`. SGD under a cosine. FloatingPointError if the loss is not
    finite.
    """
    device = parameters[0].device
    optimizer = torch.optim.SGD(parameters, lr=lr, momentum=MOMENTUM)
    for parameter in parameters:
        parameter.requires_grad_(True)
    for epoch in range(epochs):
        for group in optimizer.param_groups:
            group["lr"] = lr * 0.5 * (1.0 + math.cos(math.pi * epoch / epochs))
        drawn = kept.draw(samples, None if whole else old * samples)
        features, labels = (tensor.to(device) for tensor in drawn)
        for some, theirs in zip(features.split(samples), labels.split(samples), strict=True):
            loss = functional.cross_entropy(scores(some), theirs)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        if not math.isfinite(float(loss.detach())):
            raise FloatingPointError(
                f"the loss of an alignment must be finite, but it is {float(loss.detach())}; "
                f"a smaller method.align_lr or method.identity_align_lr may help."
            )
    for parameter in parameters:
        parameter.requires_grad_(False)
        parameter.grad = None
