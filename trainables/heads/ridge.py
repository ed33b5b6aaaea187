"""A ridge regression of the classes on features, summed up task by task (RanPAC, 2307.02251)."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from trainables.low_rank.precision import exact_products

# Share of a task's images that λ is fitted on; the others say how well it does.
FITTED_SHARE = 0.8


class RidgeHead:
    """Scores h (G + λI)⁻¹ Q with G = Σ hᵀh and Q = Σ hᵀy over the images of all tasks, y one-hot.

    h are the features f (width,) or, with a `projection` to so many, relu(fW), W normal and fixed
    (code). λ is one of 10 to the `powers`: the one of the least squared error on a fifth of the
    current task, fitted on its other images (code). G is summed up in float32, as released, and
    factored in float64; where rounding keeps G + λI from being positive definite, the next larger
    λ that does is taken. No image is kept, and the order of tasks only matters by λ.
    """

    def __init__(
        self,
        width: int,
        projection: int | None,
        powers: Sequence[int],
        device: torch.device,
        generator: torch.Generator,
    ) -> None:
        self._generator = generator
        self._ridges = tuple(10.0**power for power in sorted(set(powers)))
        self._ridge = self._ridges[0]
        self._projection: Tensor | None = None
        if projection is not None:
            self._projection = torch.randn(width, projection, generator=generator).to(device)
        size = width if projection is None else projection
        self._gram = torch.zeros(size, size, device=device)
        self._products = torch.zeros(size, 0, device=device)
        self._weight = torch.zeros(size, 0, device=device)

    @property
    def bytes(self) -> int:
        """Size in bytes of G, Q, W and the solution; a checkpoint has half of G.

        With M features G takes 4 M² bytes: 4 MB at 1,000, 400 MB at 10,000.
        """
        projection = 0 if self._projection is None else self._projection.nbytes
        return self._gram.nbytes + self._products.nbytes + self._weight.nbytes + projection

    def logits(self, features: Tensor) -> Tensor:
        """Fitted values (n, classes seen) of features (n, width)."""
        # Large weights of both signs cancel: rounded factors would be felt.
        with exact_products(features.device):
            return self._read(features) @ self._weight

    @torch.no_grad()
    def fit(self, features: Tensor, labels: Tensor, classes: range) -> dict[str, float]:
        """Takes in the features (n, width) of a task, whose labels cover `classes`.

        Records `head/ridge`, the λ that took effect.
        """
        rows = self._read(features)
        flags = functional.one_hot(labels - classes.start, len(classes)).to(rows)
        self._choose(rows, flags)
        gram = self._gram + rows.T @ rows
        # Products need not be symmetric to the last bit, and a checkpoint has one half.
        self._gram = gram.triu() + gram.triu(1).T
        self._products = torch.cat([self._products, rows.T @ flags], 1)
        return {"head/ridge": self._solve()}

    def state_dict(self) -> dict[str, Any]:
        """The upper triangle of G, Q, the solution, W and λ."""
        upper = torch.ones_like(self._gram, dtype=torch.bool).triu()
        return {
            "gram": self._gram[upper],
            "products": self._products,
            "weight": self._weight,
            "projection": self._projection,
            "ridge": self._ridge,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over what `state_dict` gave."""
        half = torch.zeros_like(self._gram)
        half[torch.ones_like(half, dtype=torch.bool).triu()] = state["gram"].to(half)
        self._gram = half + half.triu(1).T
        self._products = state["products"].to(half)
        self._weight = state["weight"].to(half)
        if state["projection"] is not None:
            self._projection = state["projection"].to(half)
        self._ridge = state["ridge"]

    def _read(self, features: Tensor) -> Tensor:
        """What the regression is of, (n, size)."""
        return features if self._projection is None else (features @ self._projection).relu()

    def _choose(self, rows: Tensor, flags: Tensor) -> None:
        """Chooses λ; a single image leaves it as it was."""
        if len(rows) < 2:
            return
        order = torch.randperm(len(rows), generator=self._generator).to(rows.device)
        kept = int(FITTED_SHARE * len(rows))
        own, held = order[:kept], order[kept:]
        errors = squared_errors(rows[own], flags[own], rows[held], flags[held], self._ridges)
        self._ridge = self._ridges[int(errors.argmin())]

    def _solve(self) -> float:
        gram, products = self._gram.double(), self._products.double()
        for ridge in (ridge for ridge in self._ridges if ridge >= self._ridge):
            shifted = gram.clone()
            shifted.diagonal().add_(ridge)
            factor, failed = torch.linalg.cholesky_ex(shifted)
            if not failed:
                self._weight = torch.cholesky_solve(products, factor).to(self._gram)
                return ridge
        raise FloatingPointError(
            f"G + λI must be positive definite, but for no λ up to {self._ridges[-1]} it is; "
            f"method.head_ridge_powers may hold larger ones."
        )


def squared_errors(
    rows: Tensor, flags: Tensor, held: Tensor, told: Tensor, ridges: Sequence[float]
) -> Tensor:
    """Mean squared error, for each λ of `ridges`, of the regression of `flags` on `rows`.

    It is fitted on `rows` (n, size) and `flags` (n, classes) and measured on `held` and `told`.
    By the eigenvalues of the smaller of the two matrices of products, in float64.
    """
    rows, flags, held, told = (tensor.double() for tensor in (rows, flags, held, told))
    if len(rows) <= rows.shape[1]:
        values, axes = torch.linalg.eigh(rows @ rows.T)
        left, right = held @ rows.T @ axes, axes.T @ flags
    else:
        values, axes = torch.linalg.eigh(rows.T @ rows)
        left, right = held @ axes, axes.T @ (rows.T @ flags)
    # Rounding may leave less than nothing of a direction that no row has.
    values = values.clamp(min=0.0)
    errors = [(left / (values + ridge) @ right - told).square().mean() for ridge in ridges]
    return torch.stack(errors)
