"""DualGPM: the memory of the directions that old tasks use, kept as M or as its complement."""

from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

Energy: TypeAlias = Literal["sigma4", "sigma2"]
Kind: TypeAlias = Literal["remove", "retain"]

# A singular value this many times below the rounding error of the moment carries no direction.
ROUNDING_MARGIN = 100.0


class DualGPM:
    """Subspace memory of one layer (InfLoRA, section 4.2 and appendix; Liang & Li, CVPR 2023).

    `basis` has orthonormal columns, shape (dim, k). Kind "remove": they span what new updates
    must avoid (M). Kind "retain": they span what is still free (M⊥). `energy` says whose squared
    singular values a threshold is a share of: the second moment's ("sigma4", released code) or
    the inputs' ("sigma2", paper). With `dual` the memory changes to "retain" once M has more
    than half of the dimensions; without it (plain GPM) M only grows.
    """

    def __init__(self, dim: int, energy: Energy = "sigma4", dual: bool = True) -> None:
        if dim < 1:
            raise ValueError(f"dim must be at least 1, but got {dim=}.")
        if energy not in ("sigma4", "sigma2"):
            raise ValueError(f"energy must be 'sigma4' or 'sigma2', but got {energy=}.")
        self.dim = dim
        self.energy: Energy = energy
        self.dual = dual
        self.kind: Kind = "remove"
        self.basis = torch.zeros(dim, 0, dtype=torch.float64)

    @property
    def free_dim(self) -> int:
        """Number of directions that no old task holds: dim M⊥."""
        columns = self.basis.shape[1]
        return columns if self.kind == "retain" else self.dim - columns

    @property
    def bytes(self) -> int:
        """Size of the stored basis in bytes."""
        return self.basis.numel() * self.basis.element_size()

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
        free = self.project(moment)
        # tr(P C P) = tr(P C), since P P = P.
        energy = free.square().sum() if self.energy == "sigma4" else free.trace()
        return min(1.0, max(0.0, float(energy) / total))

    def design(self, moment: Tensor, rank: int) -> Tensor:
        """The leading free directions of `moment`, eq. 8: orthonormal rows (≤ rank, dim).

        Never more rows than are free, nor any whose singular value is rounding noise.

        Raises:
            ValueError: if `moment` is not (dim, dim) or `rank` is below 1.
        """
        self._check(moment)
        if rank < 1:
            raise ValueError(f"rank must be at least 1, but got {rank=}.")
        left, values, _ = torch.linalg.svd(self.project(moment))
        noise = ROUNDING_MARGIN * self.dim * torch.finfo(moment.dtype).eps
        floor = noise * float(torch.linalg.matrix_norm(moment))
        count = min(rank, self.free_dim, int((values > floor).sum()))
        # Rounding can lean a weak direction towards M: project once more, then orthonormalise.
        rows, _ = torch.linalg.qr(self.project(left[:, :count]))
        designed: Tensor = rows.T.contiguous()
        return designed

    def absorb(self, moment: Tensor, threshold: float) -> None:
        """Updates the memory so that it holds the share `threshold` of the energy of `moment`.

        Raises:
            ValueError: if `moment` is not (dim, dim) or `threshold` is not in (0, 1].
        """
        self._check(moment)
        if not 0 < threshold <= 1:
            raise ValueError(f"threshold must be in (0, 1], but got {threshold=}.")
        total = self._total(moment)
        if total == 0:
            return
        directions, energies = self._free_spectrum(moment)
        shares = energies / total
        if self.kind == "retain":
            self._give_up(directions, shares, threshold)
        elif self.basis.shape[1] == 0:
            # As released, the first task stops just below the threshold.
            count = max(1, int((shares.cumsum(0) < threshold).sum()))
            self.basis = directions[:, :count].contiguous()
            if self.dual and 2 * count >= self.dim:
                self._turn_to_complement()
        else:
            self._take(directions, shares, threshold)
            if self.dual and 2 * self.basis.shape[1] > self.dim:
                self._turn_to_complement()

    def state_dict(self) -> dict[str, Any]:
        """Kind and basis, for a checkpoint."""
        return {"kind": self.kind, "basis": self.basis}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over what `state_dict` gave."""
        self.kind, self.basis = state["kind"], state["basis"]

    def _take(self, directions: Tensor, shares: Tensor, threshold: float) -> None:
        """Kind "remove": appends leading directions until the share held reaches `threshold`."""
        held = 1.0 - float(shares.sum())
        count = 0
        while held < threshold and count < self.free_dim:
            held += float(shares[count])
            count += 1
        if count:
            fresh, _ = torch.linalg.qr(self.project(directions[:, :count]))
            self.basis = torch.cat([self.basis.to(fresh), fresh], dim=1)

    def _give_up(self, directions: Tensor, shares: Tensor, threshold: float) -> None:
        """Kind "retain": gives leading directions up while the free share is ≥ 1 − threshold."""
        free = float(shares.sum())
        count = 0
        while free >= 1.0 - threshold and count < self.free_dim:
            free -= float(shares[count])
            count += 1
        if count:
            taken = directions[:, :count]
            left, _, _ = torch.linalg.svd(
                self.basis - taken @ (taken.T @ self.basis), full_matrices=False
            )
            self.basis = left[:, : self.free_dim - count].contiguous()

    def _free_spectrum(self, moment: Tensor) -> tuple[Tensor, Tensor]:
        """Directions (dim, dim) in the free space, strongest first, with their energies (dim,)."""
        if self.energy == "sigma4":
            left, values, _ = torch.linalg.svd(self.project(moment))
            return left, values.square()
        both_sides = self.project(self.project(moment).T)
        values, vectors = torch.linalg.eigh((both_sides + both_sides.T) / 2)
        return vectors.flip(1), values.flip(0).clamp_min(0)

    def _total(self, moment: Tensor) -> float:
        if self.energy == "sigma4":
            return float(moment.square().sum())
        return float(moment.trace())

    def _turn_to_complement(self) -> None:
        left, _, _ = torch.linalg.svd(self.basis, full_matrices=True)
        self.basis = left[:, self.basis.shape[1] :].contiguous()
        self.kind = "retain" if self.kind == "remove" else "remove"

    def _check(self, moment: Tensor) -> None:
        if moment.shape != (self.dim, self.dim):
            raise ValueError(
                f"moment must have shape {(self.dim, self.dim)}, but got {tuple(moment.shape)}."
            )
        if not bool(torch.isfinite(moment).all()):
            raise ValueError("moment must be finite, but it holds NaN or infinity.")
