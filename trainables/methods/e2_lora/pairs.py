"""What E2-LoRA keeps of a slice: pairs of old tasks on outputs that no other pair has."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

# The threshold θ is one of .99999, .99998, … as released, in units of 1e-5.
UNIT = 100_000
MOST = (UNIT - 1) / UNIT


@dataclass(frozen=True)
class OldPair:
    """What an old task added, up @ down: `up` (out, n) orthonormal columns, `down` (n, in).

    Column i is the i-th principal direction of the task's outputs, as far as any threshold can
    reach; columns beyond are given up in any case, and are some basis of the rest. `spectrum` are
    the variances along all principal directions that there were, strongest first; n may have become
    fewer.
    """

    up: Tensor
    down: Tensor
    spectrum: Tensor


@dataclass(frozen=True)
class Room:
    """Orthonormal columns (out, r) for a new task, and what the old ones are left with.

    `threshold` is θ, `kept` the columns of all old pairs, `least_share` the least share of an old
    pair's variance that its columns hold, `emptied` the number of pairs without a column.
    """

    columns: Tensor
    threshold: float
    kept: int
    least_share: float
    emptied: int


class OutputPairs:
    """The pairs of all old tasks in one slice (E2-LoRA, code).

    The columns of all pairs together are an orthonormal basis of the outputs: the first task has
    all of them, and each later one is made room for by what the others give up. The room is at
    least 1/t of the outputs at task t, and so never runs out.
    """

    def __init__(self, out_dim: int) -> None:
        self._out_dim = out_dim
        self.pairs: list[OldPair] = []

    def __len__(self) -> int:
        return len(self.pairs)

    def make_room(self) -> Room:
        """Cuts old pairs down to what they keep beside one task more, and hands out the rest.

        At least one task must be old. The network changes: it is without the weakest outputs of
        old tasks, which the new task may use.
        """
        tasks = len(self.pairs) + 1
        budget = (tasks - 1) * self._out_dim // tasks
        spectra = [pair.spectrum for pair in self.pairs]
        held = [pair.up.shape[1] for pair in self.pairs]
        kept, threshold = kept_ranks(spectra, held, budget)
        given_up = [pair.up[:, rank:] for pair, rank in zip(self.pairs, kept, strict=True)]
        self.pairs = [
            OldPair(pair.up[:, :rank].contiguous(), pair.down[:rank].clone(), pair.spectrum)
            for pair, rank in zip(self.pairs, kept, strict=True)
        ]
        shares = [_share(*of) for of in zip(spectra, kept, strict=True)]
        return Room(torch.cat(given_up, dim=1), threshold, sum(kept), min(shares), kept.count(0))

    def add(self, up: Tensor, down: Tensor, covariance: Tensor) -> None:
        """Takes over a trained pair, turned into principal directions of what it puts out.

        `covariance` (in, in) is that of the inputs, in float64, so that of the outputs is
        up down C downᵀ upᵀ. The first pair may be any, and gets all outputs; the columns of
        later ones must be those of the room that was made. The function stays as it is.
        """
        kind = up.dtype
        up, down = up.detach().double(), down.detach().double()
        if not self.pairs:
            up, down = torch.eye(self._out_dim, dtype=up.dtype, device=up.device), up @ down
        # In coordinates of the columns: directions without variance then stay among them, too.
        variances, directions = principal(down @ covariance.to(down) @ down.T)
        new = OldPair((up @ directions).to(kind), (directions.T @ down).to(kind), variances.cpu())
        self.pairs.append(new)

    def delta(self) -> Tensor:
        """What all pairs add to the weight, (out, in)."""
        up = torch.cat([pair.up for pair in self.pairs], dim=1)
        return up @ torch.cat([pair.down for pair in self.pairs])

    @property
    def branch_bytes(self) -> int:
        """Size of all columns and rows."""
        return sum(pair.up.nbytes + pair.down.nbytes for pair in self.pairs)

    @property
    def spectrum_bytes(self) -> int:
        """Size of all spectra."""
        return sum(pair.spectrum.nbytes for pair in self.pairs)

    def state_dict(self) -> list[dict[str, Any]]:
        """Columns, rows and spectra by task."""
        return [vars(pair).copy() for pair in self.pairs]

    def load_state_dict(self, state: list[dict[str, Any]], device: torch.device) -> None:
        """Takes over what `state_dict` gave."""
        self.pairs = [
            OldPair(pair["up"].to(device), pair["down"].to(device), pair["spectrum"])
            for pair in state
        ]


def principal(covariance: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues (n,), strongest first, and orthonormal columns (n, n) of a covariance (n, n).

    Columns are eigenvectors, each with its largest entry above 0, as far as the largest threshold
    reaches, and then what completes them: weaker ones hang on rounding, and no pair ever keeps one.
    """
    values, vectors = torch.linalg.eigh(covariance)
    values, vectors = values.flip(0).clamp_min(0.0), vectors.flip(1)
    (count,) = ranks_at(MOST, [values.cumsum(0)], [len(values)])
    strong = vectors[:, :count]
    largest = strong.gather(0, strong.abs().argmax(0, keepdim=True))
    strong = strong * largest.sign()
    completed, _ = torch.linalg.qr(strong, mode="complete")
    return values, torch.cat([strong, completed[:, count:]], dim=1)


def kept_ranks(
    spectra: Sequence[Tensor], held: Sequence[int], budget: int
) -> tuple[list[int], float]:
    """How many leading directions each old pair keeps, and the threshold θ that says so.

    θ is the largest of .99999, .99998, … with which all keep no more than `budget` together (see
    `ranks_at`). Where there are more pairs than that, those with the weakest first direction keep
    none.
    """
    sums = [spectrum.double().cumsum(0) for spectrum in spectra]
    low, high = 0, UNIT - 1
    while low < high:
        middle = (low + high + 1) // 2
        fits = sum(ranks_at(middle / UNIT, sums, held)) <= budget
        low, high = (middle, high) if fits else (low, middle - 1)
    kept = ranks_at(low / UNIT, sums, held)
    weakest_first = sorted(range(len(spectra)), key=lambda pair: float(spectra[pair][0]))
    for pair in weakest_first:
        if sum(kept) <= budget:
            break
        kept[pair] = 0
    return kept, low / UNIT


def ranks_at(threshold: float, sums: Sequence[Tensor], held: Sequence[int]) -> list[int]:
    """What each pair keeps at a threshold, given the cumulative `sums` of its spectrum.

    One direction and as many as together hold no more than that share of its variance; one of a
    pair without any. Never more than it still has (`held`): what it gave up, later pairs have
    turned into directions of their own. The released code fails where it should get some back.
    """
    return [
        min(had, 1 + int((own <= threshold * own[-1]).sum()) if own[-1] > 0 else 1)
        for own, had in zip(sums, held, strict=True)
    ]


def _share(spectrum: Tensor, kept: int) -> float:
    """The share of variance that the first `kept` directions hold; 1 where there is none."""
    whole = float(spectrum.sum())
    return float(spectrum[:kept].sum()) / whole if whole > 0 else 1.0
