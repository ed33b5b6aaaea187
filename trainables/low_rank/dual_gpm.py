"""DualGPM: the memory of the directions that old tasks use, kept as M or as its complement."""

import math
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from trainables.low_rank.precision import rounding

Energy: TypeAlias = Literal["sigma4", "sigma2"]
Kind: TypeAlias = Literal["remove", "retain"]
FirstTask: TypeAlias = Literal["reach", "below"]
HalfRule: TypeAlias = Literal["complement", "mislabel"]

# Squares of singular values tell directions apart down to this share of the largest square.
SQUARED = 1e-8


class DualGPM:
    """Subspace memory of one layer (InfLoRA, section 4.2 and appendix; Liang & Li, CVPR 2023).

    `basis` has orthonormal columns, shape (dim, k). Kind "remove": they span what new updates
    must avoid (M). Kind "retain": they span what is still free (M⊥). `energy` says whose squared
    singular values a threshold is a share of: the second moment's ("sigma4", released code) or
    the inputs' ("sigma2", paper). With `dual` the memory changes to "retain" once M has more
    than half of the dimensions; without it (plain GPM) M only grows. The first task takes
    directions until M holds its threshold ("reach") or, as released, stops just below it, with at
    least one ("below"). Where these are half of the dimensions or more, a dual memory keeps their
    complement; the released code calls them M⊥ as they stand ("mislabel").
    """

    def __init__(
        self,
        dim: int,
        energy: Energy = "sigma4",
        dual: bool = True,
        first_task: FirstTask = "reach",
        half_rule: HalfRule = "complement",
    ) -> None:
        self.dim = dim
        self.energy = energy
        self.dual = dual
        self.first_task = first_task
        self.half_rule = half_rule
        self.kind: Kind = "remove"
        self.basis = torch.zeros(dim, 0, dtype=torch.float64)

    @property
    def free_dim(self) -> int:
        """Number of directions that no old task holds: dim M⊥."""
        columns = self.basis.shape[1]
        return columns if self.kind == "retain" else self.dim - columns

    @property
    def empty(self) -> bool:
        """Whether no task was absorbed yet: M has no direction."""
        return self.kind == "remove" and self.basis.shape[1] == 0

    @property
    def bytes(self) -> int:
        """Size of the stored basis in bytes."""
        return self.basis.nbytes

    def project(self, moment: Tensor) -> Tensor:
        """The part of `moment` (dim, n) in the free space: (I − M Mᵀ) C or M⊥ M⊥ᵀ C."""
        basis = self.basis.to(moment)
        held: Tensor = basis @ (basis.T @ moment)
        return held if self.kind == "retain" else moment - held

    def free_energy_share(self, moment: Tensor) -> float:
        """Share of the energy of `moment` (dim, dim) that the free space holds, in [0, 1]."""
        total = self._total(moment)
        if total == 0:
            return 0.0
        if self.energy == "sigma4":
            energy = self.project(moment).square().sum()
        else:
            # tr(P C P) = tr(P C), since P P = P.
            energy = self.project(moment).trace()
        return min(1.0, max(0.0, float(energy) / total))

    def design(self, moment: Tensor, rank: int) -> Tensor:
        """The leading free directions of `moment`, eq. 8: orthonormal rows (≤ rank, dim).

        Never more rows than are free, nor any whose singular value is rounding noise; ValueError
        if `moment` is not finite.
        """
        _check_finite(moment)
        directions, energies = self._squared_spectrum(moment)
        if len(energies) >= rank:
            noise = rounding(moment) * float(torch.linalg.matrix_norm(moment))
            weakest = float(energies[rank - 1])
            if weakest > max(SQUARED * float(energies[0]), noise**2):
                return self.orthonormal(directions[:, :rank])
        # Squaring would blur the last of them, or their number.
        return self.leading(moment, rank, rounding(moment))

    def leading(self, matrix: Tensor, rank: int, noise: float) -> Tensor:
        """Leading left singular vectors of the free part of `matrix` (dim, n), (≤ rank, dim).

        Singular values of less than `noise` times the Frobenius norm of `matrix` do not count.
        """
        free = self._free_basis(matrix)
        left, values, _ = torch.linalg.svd(free.T @ matrix, full_matrices=False)
        count = int((values > noise * float(torch.linalg.matrix_norm(matrix))).sum())
        return self.orthonormal(free @ left[:, :rank][:, :count])

    def orthonormal(self, columns: Tensor) -> Tensor:
        """Orthonormal free rows (≤ n, dim), never more than are free, from `columns` (dim, n).

        Rounding can lean a weak direction towards M: this projects it once more.
        """
        rows, _ = torch.linalg.qr(self.project(columns[:, : self.free_dim]))
        inside: Tensor = rows.T.contiguous()
        return inside

    def angle(self, rows: Tensor) -> float | None:
        """Smallest principal angle in degrees between span(`rows`), (n, dim), and M.

        90 is orthogonal; None where either holds no direction.
        """
        if self.empty or not rows.shape[0]:
            return None
        columns, _ = torch.linalg.qr(rows.T)
        held = columns - self.project(columns)
        return math.degrees(math.acos(min(1.0, float(torch.linalg.matrix_norm(held, 2)))))

    def absorb(self, moment: Tensor, threshold: float, keep_free: int = 0) -> float:
        """Updates the memory so that it holds the share `threshold` of the energy of `moment`.

        At least `keep_free` directions stay free, where there are as many: then the memory
        holds less. Returns the threshold that took effect. ValueError if `moment` is not finite
        or `threshold` not in (0, 1]; ArithmeticError if the released algorithm would stop here
        (half rule "mislabel").
        """
        _check_finite(moment)
        if not 0 < threshold <= 1:
            raise ValueError(f"threshold must be in (0, 1], but got {threshold=}.")
        total = self._total(moment)
        if total == 0:
            return threshold
        directions, energies = self._free_spectrum(moment)
        shares = energies / total
        first = self.empty
        needed = self._needed(shares, threshold)
        count = min(needed, max(0, self.free_dim - keep_free))
        if count and self.kind == "retain":
            # The directions are a basis of M⊥: those that are left stay one.
            self.basis = directions[:, count:].contiguous()
        elif count:
            fresh, _ = torch.linalg.qr(self.project(directions[:, :count]))
            self.basis = torch.cat([self.basis.to(fresh), fresh], dim=1)
        self._halve(first)
        if count == needed:
            return threshold
        return min(threshold, max(0.0, 1.0 - float(shares[count:].sum())))

    def state_dict(self) -> dict[str, Any]:
        """Kind and basis, for a checkpoint."""
        return {"kind": self.kind, "basis": self.basis}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over what `state_dict` gave."""
        self.kind, self.basis = state["kind"], state["basis"]

    def _needed(self, shares: Tensor, threshold: float) -> int:
        """How many of the free directions, with their `shares` of energy, M has to take in."""
        if self.empty and self.first_task == "below":
            return max(1, int((shares.cumsum(0) < threshold).sum()))
        count = 0
        if self.kind == "retain":
            free = float(shares.sum())
            while free >= 1.0 - threshold and count < self.free_dim:
                free -= float(shares[count])
                count += 1
            return count
        held = 1.0 - float(shares.sum())
        while held < threshold and count < self.free_dim:
            held += float(shares[count])
            count += 1
        return count

    def _halve(self, first: bool) -> None:
        """Stores the smaller of M and M⊥; right after the first task a tie goes to M⊥."""
        twice, least = 2 * self.basis.shape[1], self.dim if first else self.dim + 1
        if not self.dual or self.kind == "retain" or twice < least:
            return
        if first and self.half_rule == "mislabel":
            if twice > self.dim:
                raise ArithmeticError(
                    f"with half_rule 'mislabel' the first task may take half of the {self.dim} "
                    f"dimensions at most, but it takes {twice // 2}: the released algorithm stops "
                    f"here with an assertion; use 'complement' or a smaller threshold."
                )
            self.kind = "retain"
            return
        self.basis, self.kind = _complement(self.basis).contiguous(), "retain"

    def _free_spectrum(self, moment: Tensor) -> tuple[Tensor, Tensor]:
        """A basis (dim, free_dim) of the free space, strongest first, with energies (free_dim,)."""
        if self.energy == "sigma4":
            return self._squared_spectrum(moment)
        free = self._free_basis(moment)
        values, vectors = torch.linalg.eigh(_symmetric(free.T @ moment @ free))
        return free @ vectors.flip(1), values.flip(0).clamp_min(0)

    def _squared_spectrum(self, moment: Tensor) -> tuple[Tensor, Tensor]:
        """Left singular vectors of the free part of `moment`, with σ²; as `_free_spectrum`.

        From a symmetric eigen-decomposition, which takes half the time of a singular value
        decomposition: of `moment` itself where all is free, else of Ĉ Ĉᵀ in coordinates of the
        free space. Its eigenvalues are the energies themselves, and so as exact as shares of the
        whole; directions below 1e-8 of the strongest singular value get mixed with each other.
        """
        if self.empty:
            values, vectors = torch.linalg.eigh(_symmetric(moment))
            return vectors.flip(1), values.flip(0).clamp_min(0).square()
        free = self._free_basis(moment)
        inside = free.T @ moment
        values, vectors = torch.linalg.eigh(inside @ inside.T)
        return free @ vectors.flip(1), values.flip(0).clamp_min(0)

    def _free_basis(self, like: Tensor) -> Tensor:
        """Orthonormal columns (dim, free_dim) that span the free space, where `like` is."""
        basis = self.basis.to(like)
        return basis if self.kind == "retain" else _complement(basis)

    def _total(self, moment: Tensor) -> float:
        if self.energy == "sigma4":
            return float(moment.square().sum())
        return float(moment.trace())


def _check_finite(moment: Tensor) -> None:
    if not bool(torch.isfinite(moment).all()):
        raise ValueError("moment must be finite, but it holds NaN or infinity.")


def _complement(basis: Tensor) -> Tensor:
    """Orthonormal columns (dim, dim − k) orthogonal to those of `basis` (dim, k)."""
    whole, _ = torch.linalg.qr(basis, mode="complete")
    rest: Tensor = whole[:, basis.shape[1] :]
    return rest


def _symmetric(matrix: Tensor) -> Tensor:
    """Without what rounding made of the symmetry."""
    return (matrix + matrix.T) / 2
