"""Directions that SD-LoRA has learned: frozen unit pairs, a trained magnitude each."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class DirectionStack(nn.Module):
    """Finished pairs of SD-LoRA, Σ α_k share_k unit(up_k down_k), stacked into two matrices.

    `up` (out, R) and `down` (R, in) hold all pairs side by side, each divided by its norm;
    `owner` (R,) says to which pair each rank belongs. Of each pair, `task` (pairs,) is the number
    of the task it comes from, `share` (pairs,) its fixed weight beside the other slices that have
    the same α (1 where α is the slice's own), `length` (pairs,) the Frobenius norm that dividing
    left it (1 with that normaliser), and `alpha` (pairs,) is what is trained.
    """

    up: Tensor
    down: Tensor
    owner: Tensor
    task: Tensor
    share: Tensor
    length: Tensor

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.register_buffer("up", torch.zeros(out_dim, 0))
        self.register_buffer("down", torch.zeros(0, in_dim))
        self.register_buffer("owner", torch.zeros(0, dtype=torch.long))
        self.register_buffer("task", torch.zeros(0, dtype=torch.long))
        self.register_buffer("share", torch.zeros(0))
        self.register_buffer("length", torch.zeros(0))
        self.alpha = nn.Parameter(torch.zeros(0))

    def __len__(self) -> int:
        return self.alpha.shape[0]

    @torch.no_grad()
    def push(
        self, up: Tensor, down: Tensor, magnitude: Tensor, norm: Tensor, scale: Tensor, task: int
    ) -> None:
        """Takes a trained pair over, divided by `norm`; its α becomes magnitude · `scale`.

        Its share is norm / scale, so that the sum does not move; a pair of norm 0 stays 0.
        """
        # In place of 0/0: nothing is scaled, and the pair is 0 in any case.
        share = norm / scale if scale > 0 else torch.ones_like(norm)
        owner = torch.full((down.shape[0],), len(self), device=self.owner.device)
        unit = up / norm if norm > 0 else torch.zeros_like(up)
        alpha = (magnitude * scale).to(self.alpha).reshape(1)
        length = pair_norm(unit, down, "frobenius")
        self.up = torch.cat([self.up, unit], dim=1)
        self.down = torch.cat([self.down, down])
        self.owner = torch.cat([self.owner, owner])
        self.task = torch.cat([self.task, self.task.new_tensor([task])])
        self.share = torch.cat([self.share, share.to(self.share).reshape(1)])
        self.length = torch.cat([self.length, length.to(self.length).reshape(1)])
        self.alpha = nn.Parameter(torch.cat([self.alpha, alpha]))

    def delta(self) -> Tensor:
        """The weight that all pairs add together, (out, in), in one matrix product."""
        return (self.up * self.scale()) @ self.down

    def scale(self) -> Tensor:
        """The factor α_k share_k of every rank, (R,)."""
        return (self.alpha * self.share)[self.owner]

    def gram(self) -> Tensor:
        """Inner products ⟨unit_j, unit_k⟩ of all pairs, (pairs, pairs) in float64."""
        return self._by_pair(self.up, self.down) @ self._ranks().T

    def inner(self, up: Tensor, down: Tensor) -> Tensor:
        """Inner products ⟨unit_k, up down⟩ of every pair with another one, (pairs,) in float64."""
        return self._by_pair(up, down).sum(1)

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Takes over what `state_dict` gave, of any number of pairs."""
        for name, _ in list(self.named_buffers()):
            setattr(self, name, tensors[name].clone())
        self.alpha = nn.Parameter(tensors["alpha"].clone())

    def _by_pair(self, up: Tensor, down: Tensor) -> Tensor:
        """⟨unit_k, up_j down_j⟩ of every pair k and rank j, (pairs, rank), from thin products."""
        by_rank = (self.up.double().T @ up.double()) * (self.down.double() @ down.double().T)
        return self._ranks() @ by_rank

    def _ranks(self) -> Tensor:
        """1 where a rank belongs to a pair, (pairs, R)."""
        pairs = torch.arange(len(self), device=self.owner.device)
        return (pairs[:, None] == self.owner[None]).double()


def pair_norm(up: Tensor, down: Tensor, normaliser: str) -> Tensor:
    """‖up down‖_F ("frobenius") or ‖up‖_F ‖down‖_F ("factor_norms"), in float64.

    The product is never formed: ‖up down‖²_F is the sum of all entries of upᵀ up ∘ down downᵀ.
    """
    up, down = up.detach().double(), down.detach().double()
    if normaliser == "factor_norms":
        product: Tensor = torch.linalg.matrix_norm(up) * torch.linalg.matrix_norm(down)
        return product
    squared: Tensor = ((up.T @ up) * (down @ down.T)).sum()
    return squared.clamp_min(0.0).sqrt()


def similarity(stack: DirectionStack, up: Tensor, down: Tensor) -> float:
    """Mean over old pairs of |cos| of the angle between up_k down_k and up down, in [0, 1].

    The cosine is that of the Frobenius inner product with either normaliser; it is 0 where a
    pair is 0.
    """
    lengths = stack.length.double() * pair_norm(up, down, "frobenius")
    cosines = stack.inner(up.detach(), down.detach()).abs() / lengths
    return float(torch.where(lengths > 0, cosines, 0.0).mean())
