"""The two designs of LoDA's `down`, and how its general branch is made to suit old tasks."""

import torch
from torch import Tensor

from trainables.low_rank.precision import rounding

# What is added to a diagonal so that it can be factored: this, and ten times as much each time.
JITTER = 1e-12
# Tokens are computed in float32: so far, for their length, they may stray from where they lie.
TOKEN_ERROR = 8 * torch.finfo(torch.float32).eps


def general(new: Tensor, old: Tensor, rank: int) -> Tensor:
    """The leading eigenvectors of `new` + `old`, (dim, dim) each: orthonormal rows (rank, dim)."""
    _, vectors = torch.linalg.eigh(new + old)
    return leading(vectors, rank).T.contiguous()


def isolated(new: Tensor, old: Tensor, rank: int) -> Tensor:
    """Where `new` is strongest for what `old` holds: orthonormal rows (≤ rank, dim).

    With old = L Lᵀ, the leading eigenvectors V of L⁻¹ new L⁻ᵀ give L⁻ᵀ V, which are made
    orthonormal (code): the directions x of the largest xᵀ new x / xᵀ old x. All of this inside the
    space where either has energy: elsewhere, as behind a layer normalisation, that is 0 / 0.
    """
    inside = seen(new + old)
    new, old = inside.T @ new @ inside, inside.T @ old @ inside
    lower = factored(old)
    half = torch.linalg.solve_triangular(lower, new, upper=False)
    whitened = torch.linalg.solve_triangular(lower, half.T, upper=False)
    _, vectors = torch.linalg.eigh((whitened + whitened.T) / 2)
    directions = torch.linalg.solve_triangular(lower.T, leading(vectors, rank), upper=True)
    columns, _ = torch.linalg.qr(directions)
    rows: Tensor = (inside @ columns).T.contiguous()
    return rows


def seen(moment: Tensor) -> Tensor:
    """Orthonormal columns (dim, k) that span where a moment has more than rounded tokens leave."""
    values, vectors = torch.linalg.eigh(moment)
    of_tokens = TOKEN_ERROR**2 * float(moment.trace())
    of_products = rounding(moment) * float(torch.linalg.matrix_norm(moment))
    spanning: Tensor = vectors[:, values > max(of_tokens, of_products)]
    return spanning


def factored(moment: Tensor) -> Tensor:
    """The lower Cholesky factor of a moment with the first jitter of 1e-12 · 10ⁿ that allows it.

    ArithmeticError for a moment that is not finite.
    """
    jitter = JITTER
    while jitter < float("inf"):
        shifted = moment.clone()
        shifted.diagonal().add_(jitter)
        factor = torch.linalg.cholesky_ex(shifted)
        if not factor.info and bool(torch.isfinite(factor.L).all()):
            lower: Tensor = factor.L
            return lower
        jitter *= 10
    raise ArithmeticError("second moments must be finite, but they hold NaN or infinity.")


def etas(rows: Tensor, new: Tensor, old: Tensor, new_weight: float) -> Tensor:
    """η_i = g_old / (g_old + w · g_new) of each row, g = a_i C a_iᵀ: (rank,) in [0, 1].

    0 for a row along which neither has energy.
    """
    of_new, of_old = (_energies(rows, moment).diagonal().clamp_min(0) for moment in (new, old))
    return (of_old / (of_old + new_weight * of_new)).nan_to_num(0.0)


def suited(
    up: Tensor, rows: Tensor, new: Tensor, old: Tensor, new_weight: float, merge: str
) -> Tensor:
    """The columns `up` (out, rank) of a branch, so that less of it is felt by old tasks.

    "least_squares" minimises over U the change U A of old outputs and, w times, what is lost of
    the new task's: tr U A C_old Aᵀ Uᵀ + w tr (U − up) A C_new Aᵀ (U − up)ᵀ. "diagonal" (code)
    ignores how directions go together: each column is multiplied by 1 − η_i.
    """
    if merge == "diagonal":
        return up * (1 - etas(rows, new, old, new_weight)).to(up)
    of_new, of_old = (_energies(rows, moment) for moment in (new, old))
    inverse = torch.linalg.pinv(of_old + new_weight * of_new, hermitian=True)
    merged: Tensor = up @ (new_weight * of_new @ inverse).to(up)
    return merged


def share(rows: Tensor, moment: Tensor) -> float:
    """The share of the energy of `moment` (dim, dim) along orthonormal rows, in [0, 1]."""
    whole = float(moment.trace())
    return float(_energies(rows, moment).trace()) / whole if whole > 0 else 0.0


def leading(vectors: Tensor, rank: int) -> Tensor:
    """The last `rank` columns, which `eigh` sorts to the end, strongest first."""
    return vectors.flip(1)[:, :rank]


def _energies(rows: Tensor, moment: Tensor) -> Tensor:
    """A C Aᵀ (rank, rank), in the precision of the moment."""
    rows = rows.to(moment)
    return rows @ moment @ rows.T
