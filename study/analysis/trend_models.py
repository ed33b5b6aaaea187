"""Curves that a metric may follow over tasks, and their fit by least squares.

Each is linear in all its parameters but one at most, its shape. For a given shape the others have a
closed form, so that a search over the shape alone finds the global optimum.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

Array = NDArray[np.float64]
GRID = 64
# Exponents of a power law that are tried: steeper ones are steps.
STEEPEST = 6.0


@dataclass(frozen=True)
class TrendModel:
    """One kind of curve.

    `basis` gives its columns (points, linear parameters) at x, for the first x of the data and a
    shape; `turned` is their derivative by the shape. `shapes` are the least and the most that is
    tried for given data, None where there is no shape. `shown` turns the shape into the parameter
    that people read, and rises with it.
    """

    name: str
    formula: str
    linear: tuple[str, ...]
    basis: Callable[[Array, float, float], Array]
    shape: str | None = None
    turned: Callable[[Array, float, float], Array] | None = None
    shapes: Callable[[Array], tuple[float, float]] | None = None
    shown: Callable[[float], float] = float

    @property
    def names(self) -> tuple[str, ...]:
        """All parameters, the shape last."""
        return self.linear if self.shape is None else (*self.linear, self.shape)


@dataclass(frozen=True)
class Fit:
    """A curve through data: `origin` is the first x, `inside` tells a shape off its limits."""

    model: TrendModel
    origin: float
    shape: float
    weights: Array
    inside: bool

    def values(self, x: Array) -> Array:
        """The curve at x (points,)."""
        return np.asarray(self.model.basis(x, self.origin, self.shape) @ self.weights)

    def slopes(self, x: Array) -> Array:
        """Its derivative by each parameter at x (points, parameters)."""
        columns = self.model.basis(x, self.origin, self.shape)
        if self.model.turned is None:
            return columns
        last = self.model.turned(x, self.origin, self.shape) @ self.weights
        return np.column_stack([columns, last])

    @property
    def parameters(self) -> Array:
        """All parameters, the shape last and as it was searched."""
        return self.weights if self.model.shape is None else np.append(self.weights, self.shape)


def fit(model: TrendModel, x: Array, y: Array, refine: bool = True) -> Fit:
    """The least squares fit to y at x (points,), both of at least as many points as parameters.

    Without `refine` the shape is the best of a grid of 64.
    """
    origin = float(x.min())
    if model.shapes is None:
        return Fit(model, origin, 0.0, _weights(model, x, y, origin, 0.0), inside=True)
    grid, frames = _frames(model, tuple(x))
    left = float(y @ y) - np.square(np.einsum("gnk,n->gk", frames, y)).sum(axis=1)
    best = int(np.argmin(left))
    shape = float(grid[best])
    if refine:
        low, high = grid[max(best - 1, 0)], grid[min(best + 1, GRID - 1)]
        refined = optimize.minimize_scalar(
            lambda candidate: _rest(model, x, y, origin, float(candidate)),
            bounds=(float(low), float(high)),
            method="bounded",
            options={"xatol": 1e-8},
        )
        if refined.fun <= _rest(model, x, y, origin, shape):
            shape = float(refined.x)
    weights = _weights(model, x, y, origin, shape)
    return Fit(model, origin, shape, weights, inside=0 < best < GRID - 1)


def _weights(model: TrendModel, x: Array, y: Array, origin: float, shape: float) -> Array:
    return np.asarray(np.linalg.lstsq(model.basis(x, origin, shape), y, rcond=None)[0])


def _rest(model: TrendModel, x: Array, y: Array, origin: float, shape: float) -> float:
    """Sum of squares that the curve of this shape leaves."""
    columns = model.basis(x, origin, shape)
    left = y - columns @ np.linalg.lstsq(columns, y, rcond=None)[0]
    return float(left @ left)


@lru_cache(maxsize=256)
def _frames(model: TrendModel, points: tuple[float, ...]) -> tuple[Array, Array]:
    """The grid of shapes, and for each an orthonormal frame of its columns at these points."""
    x = np.array(points)
    assert model.shapes is not None
    grid = np.linspace(*model.shapes(x), GRID)
    columns = np.stack([model.basis(x, float(x.min()), float(shape)) for shape in grid])
    return grid, np.linalg.qr(columns)[0]


def _times(x: Array) -> tuple[float, float]:
    """Logarithms of the time constants that data at x can show."""
    gap = float(np.diff(np.unique(x)).min())
    return float(np.log(gap / 4)), float(np.log(4 * np.ptp(x)))


def _decay(x: Array, origin: float, shape: float) -> Array:
    return np.column_stack([np.ones_like(x), np.exp(-(x - origin) / np.exp(shape))])


def _decay_turned(x: Array, origin: float, shape: float) -> Array:
    ages = (x - origin) / np.exp(shape)
    return np.column_stack([np.zeros_like(x), ages * np.exp(-ages)])


LINEAR = TrendModel(
    "linear",
    "a + b·x",
    ("a", "b"),
    lambda x, _origin, _shape: np.column_stack([np.ones_like(x), x]),
)
MODELS = (
    TrendModel("constant", "a", ("a",), lambda x, _origin, _shape: np.ones((len(x), 1))),
    LINEAR,
    TrendModel(
        "logarithmic",
        "a + b·ln(x)",
        ("a", "b"),
        lambda x, _origin, _shape: np.column_stack([np.ones_like(x), np.log(x)]),
    ),
    TrendModel(
        "power law",
        "a·(x/x0)^b",
        ("a",),
        lambda x, origin, shape: ((x / origin) ** shape)[:, None],
        "b",
        lambda x, origin, shape: ((x / origin) ** shape * np.log(x / origin))[:, None],
        lambda _: (-STEEPEST, STEEPEST),
    ),
    TrendModel(
        "exponential decay",
        "a + b·exp(−(x − x0)/tau)",
        ("a", "b"),
        _decay,
        "tau",
        _decay_turned,
        _times,
        lambda shape: float(np.exp(shape)),
    ),
)
"""What is tried, x0 being the first x of the data."""
