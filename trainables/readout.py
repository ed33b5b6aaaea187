"""What features are worth: ridge regression of the classes on them, with all images at hand.

A diagnosis that no learner may use: it sees the training images of all tasks at once.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional

FOLDS = 5
# Ridges tried, as shares of the mean eigenvalue of the features' scatter; of equals, the largest.
RIDGES = tuple(10.0 ** (power / 2) for power in range(4, -17, -1))


@dataclass(frozen=True)
class ReadOut:
    """A ridge regression: `mean` (width,) of the features, `weight` (width, classes), float64.

    `of_classes` (classes, classes) are the fitted values of each class's mean features, and
    `ridge` is the one of `RIDGES` that was chosen.
    """

    mean: Tensor
    weight: Tensor
    of_classes: Tensor
    ridge: float

    def told(self, features: Tensor) -> Tensor:
        """The classes (n,) of features (n, width): whose mean is nearest by the fitted values.

        The largest fitted value would be another rule, which masks classes that lie between others
        (Hastie, Tibshirani and Friedman, The Elements of Statistical Learning, section 4.2).
        """
        fitted = (features.double() - self.mean) @ self.weight
        # |fitted − own|² without what all classes share.
        return (fitted @ self.of_classes.T - self.of_classes.square().sum(1) / 2).argmax(1)


@dataclass(frozen=True)
class _Sums:
    """Of some images, in float64: their number by class, and sums over them.

    `counts` (classes,), sums of `features` by class (classes, width) and of the outer `products`
    of the features (width, width).
    """

    counts: Tensor
    features: Tensor
    products: Tensor

    @classmethod
    def none(cls, classes: int, width: int, device: torch.device) -> Self:
        """Those of no images."""
        shapes = ((classes,), (classes, width), (width, width))
        return cls(*(torch.zeros(shape, dtype=torch.float64, device=device) for shape in shapes))

    def scatter(self, mean: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
        """Σ (x − mean)(x − mean)ᵀ and Σ (x − mean)(y − share)ᵀ; y is 1 for the class, else 0."""
        number, total = self.counts.sum(), self.features.sum(0)
        crossed = torch.outer(mean, total)
        of_features = self.products - crossed - crossed.T + number * torch.outer(mean, mean)
        of_classes = self.features.T - torch.outer(mean, self.counts)
        return of_features, of_classes - torch.outer(total - number * mean, share)

    def means(self) -> tuple[Tensor, Tensor]:
        """The mean of the features and the share of each class."""
        number = self.counts.sum()
        return self.features.sum(0) / number, self.counts / number


@torch.no_grad()
def fit_read_out(batches: Iterable[Tensor], labels: Tensor, classes: int) -> ReadOut:
    """Fits the read-out of the features (n, width) in `batches`, whose `labels` come in order.

    One pass: λ is the one of `RIDGES` with the least squared error on folds held out in turn
    (`FOLDS` of them, each with its share of every class), which the sums of the folds tell. They
    take (width + classes) · width numbers a fold, however many images there are.
    FloatingPointError if a feature is not finite.
    """
    folds = _sums(batches, labels, classes)
    counts, features, products = (
        torch.stack([getattr(fold, name) for fold in folds]).sum(0)
        for name in ("counts", "features", "products")
    )
    if not bool(torch.isfinite(products).all()):
        raise FloatingPointError("features must be finite, but they are not.")
    whole = _Sums(counts, features, products)
    error = torch.zeros(len(RIDGES), dtype=torch.float64, device=labels.device)
    for fold in folds:
        rest = _Sums(counts - fold.counts, features - fold.features, products - fold.products)
        if bool(fold.counts.any()) and bool(rest.counts.any()):
            error += _held_out_error(rest, fold)
    best = int(error.argmin())
    mean, share = whole.means()
    axes, inverse, along = _solved(*whole.scatter(mean, share))
    weight = axes @ (inverse[best, :, None] * along)
    of_classes = (features / counts.clamp(min=1)[:, None] - mean) @ weight
    return ReadOut(mean, weight, of_classes, RIDGES[best])


def folds_of(labels: Tensor, classes: int) -> Tensor:
    """Which fold each image is in, (n,): those of a class take turns, in the order of `labels`.

    A class begins where the one before it does not, so that few images do not crowd one fold.
    """
    counts = torch.bincount(labels, minlength=classes)
    order = torch.argsort(labels, stable=True)
    first = counts.cumsum(0) - counts
    place = torch.empty_like(labels)
    place[order] = torch.arange(len(labels), device=labels.device) - first[labels[order]]
    return (place + labels) % FOLDS


def _sums(batches: Iterable[Tensor], labels: Tensor, classes: int) -> list[_Sums]:
    folds, found, start = folds_of(labels, classes), list[_Sums](), 0
    for batch in batches:
        width, stop = batch.shape[1], start + len(batch)
        if not found:
            found = [_Sums.none(classes, width, labels.device) for _ in range(FOLDS)]
        for number, sums in enumerate(found):
            held = folds[start:stop] == number
            own = batch[held].double()
            flags = functional.one_hot(labels[start:stop][held], classes).double()
            sums.counts.add_(flags.sum(0))
            sums.features.addmm_(flags.T, own)
            sums.products.addmm_(own.T, own)
        start = stop
    return found


def _solved(of_features: Tensor, of_classes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The ridge regressions of a scatter: their weights are axes · diag(inverse) · along.

    `axes` (width, width) are its eigenvectors, `inverse` (ridges, width) is 1 / (eigenvalue + λ),
    `along` (width, classes).
    """
    values, axes = torch.linalg.eigh(of_features)
    # Rounding may leave less than nothing of a direction that no feature has.
    values = values.clamp(min=0.0)
    scale = values.mean()
    ridges = torch.tensor(RIDGES, dtype=values.dtype, device=values.device)
    # Where no feature varies there is nothing to divide by.
    ridges = ridges * torch.where(scale > 0, scale, torch.ones_like(scale))
    return axes, 1 / (values + ridges[:, None]), axes.T @ of_classes


def _held_out_error(rest: _Sums, fold: _Sums) -> Tensor:
    """Squared error of each ridge, fitted on `rest`, over `fold`, but for what all share."""
    mean, share = rest.means()
    axes, inverse, along = _solved(*rest.scatter(mean, share))
    of_features, of_classes = fold.scatter(mean, share)
    linear = (along * (axes.T @ of_classes)).sum(1)
    square = (axes.T @ of_features @ axes) * (along @ along.T)
    return ((inverse @ square) * inverse).sum(1) - 2 * inverse @ linear
