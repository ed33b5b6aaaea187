"""Low-rank branches beside a frozen linear layer, merged or composed so that steps stay cheap."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class LowRankBranch(nn.Module):
    """magnitude · up @ down, with `down` (rank, in), `up` (out, rank) and a scalar magnitude.

    `up` starts at zero, so that a new branch changes nothing.
    """

    def __init__(self, in_dim: int, out_dim: int, rank: int) -> None:
        super().__init__()
        if not 0 <= rank <= in_dim:
            raise ValueError(f"rank must be in [0, {in_dim}], but got {rank=}.")
        self.down = nn.Parameter(torch.zeros(rank, in_dim))
        self.up = nn.Parameter(torch.zeros(out_dim, rank))
        self.magnitude = nn.Parameter(torch.ones(()))

    def delta(self) -> Tensor:
        """The weight that the branch adds, (out, in)."""
        return (self.magnitude * self.up) @ self.down


class DirectionStack(nn.Module):
    """Finished pairs of SD-LoRA, Σ α_k unit(up_k down_k), stacked into one pair of matrices.

    `up` (out, R) and `down` (R, in) hold all pairs side by side, each scaled to Frobenius norm 1;
    `owner` (R,) names the pair of each rank; `alpha` (pairs,) is what is trained.
    """

    up: Tensor
    down: Tensor
    owner: Tensor

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.register_buffer("up", torch.zeros(out_dim, 0))
        self.register_buffer("down", torch.zeros(0, in_dim))
        self.register_buffer("owner", torch.zeros(0, dtype=torch.long))
        self.alpha = nn.Parameter(torch.zeros(0))

    def __len__(self) -> int:
        return self.alpha.shape[0]

    def push(self, branch: LowRankBranch) -> None:
        """Takes a trained pair over; α becomes magnitude · ‖up down‖_F, so the sum is unmoved."""
        up, down = branch.up.detach(), branch.down.detach()
        norm = torch.linalg.matrix_norm(up @ down)
        unit = up / norm if norm > 0 else torch.zeros_like(up)
        alpha = torch.cat([self.alpha.detach(), (branch.magnitude.detach() * norm).reshape(1)])
        owner = torch.full((down.shape[0],), len(self), device=self.owner.device)
        self.up = torch.cat([self.up, unit], dim=1)
        self.down = torch.cat([self.down, down])
        self.owner = torch.cat([self.owner, owner])
        self.alpha = nn.Parameter(alpha)

    def delta(self) -> Tensor:
        """The weight that all pairs add together, (out, in), in one matrix product."""
        return (self.up * self.alpha[self.owner]) @ self.down


class LowRankLinear(nn.Module):
    """A linear layer with low-rank branches on named slices of its outputs.

    `slices` maps a name to the output rows it covers, such as q, k, v of a fused qkv. A branch
    under training costs two thin products; once there are stacked directions, all are composed
    into the weight once a step, so that a step costs the same after any number of tasks.
    """

    def __init__(self, base: nn.Linear, slices: Mapping[str, slice]) -> None:
        super().__init__()
        for name, rows in slices.items():
            if not 0 <= rows.start < rows.stop <= base.out_features:
                raise ValueError(
                    f"slice {name!r} must lie in [0, {base.out_features}], but got {rows}."
                )
        self.base = base
        self.slices = dict(slices)
        self.branches = nn.ModuleDict()
        self.stacks = nn.ModuleDict()
        self._merged = False

    @property
    def in_features(self) -> int:
        """Width of the inputs."""
        return self.base.in_features

    def add_branch(self, rank: int) -> dict[str, LowRankBranch]:
        """Opens a branch of `rank` on every slice and returns them by slice.

        Raises:
            ValueError: if a branch is open already or the rank does not fit.
        """
        if len(self.branches):
            raise ValueError("a branch is open already: merge or stack it first.")
        opened = {}
        for name, rows in self.slices.items():
            branch = LowRankBranch(self.in_features, rows.stop - rows.start, rank)
            opened[name] = branch.to(self.base.weight)
            self.branches[name] = opened[name]
        return opened

    @torch.no_grad()
    def merge(self) -> None:
        """Adds the open branches to the weight and closes them (InfLoRA's integration step)."""
        for name, branch in self._open_branches().items():
            self.base.weight[self.slices[name]] += branch.delta()
            self._merged = True
        self.branches.clear()

    @torch.no_grad()
    def stack(self) -> None:
        """Turns the open branches into frozen directions with a magnitude each (SD-LoRA)."""
        for name, branch in self._open_branches().items():
            if name not in self.stacks:
                fresh = DirectionStack(self.in_features, branch.up.shape[0])
                self.stacks[name] = fresh.to(self.base.weight.device)
            self.stack_of(name).push(branch)
        self.branches.clear()

    def stack_of(self, name: str) -> DirectionStack:
        """The finished directions of a slice."""
        stack = self.stacks[name]
        if not isinstance(stack, DirectionStack):
            raise TypeError(f"stack {name!r} must be a DirectionStack, but it is {type(stack)}.")
        return stack

    def delta(self) -> Tensor:
        """What open branches and stacked directions add to the weight, (out, in)."""
        parts = {name: stack.delta() for name, stack in self._all_stacks().items()}
        for name, branch in self._open_branches().items():
            parts[name] = parts[name] + branch.delta() if name in parts else branch.delta()
        return self._assemble(parts)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (…, in) to (…, out)."""
        if len(self.stacks):
            return functional.linear(x, self.base.weight + self.delta(), self.base.bias)
        out = functional.linear(x, self.base.weight, self.base.bias)
        branches = self._open_branches()
        if not branches:
            return out
        down = torch.cat([branch.down for branch in branches.values()])
        up = torch.cat([self._padded(name, branch) for name, branch in branches.items()], dim=1)
        return out + functional.linear(functional.linear(x, down), up)

    def changes(self) -> dict[str, Any]:
        """What training changed: rows that were merged into, and stacked directions.

        This is for a checkpoint: an untouched pretrained weight is not in it.
        """
        merged = self.slices if self._merged else {}
        return {
            "rows": {
                name: self.base.weight.detach()[rows].clone() for name, rows in merged.items()
            },
            "stacks": {
                name: {key: value.detach() for key, value in stack.state_dict().items()}
                for name, stack in self._all_stacks().items()
            },
        }

    @torch.no_grad()
    def load_changes(self, state: dict[str, Any]) -> None:
        """Takes over what `changes` gave, onto the same pretrained layer."""
        for name, rows in state["rows"].items():
            self.base.weight[self.slices[name]] = rows.to(self.base.weight)
            self._merged = True
        for name, tensors in state["stacks"].items():
            fresh = DirectionStack(self.in_features, tensors["up"].shape[0])
            fresh.up, fresh.down = tensors["up"], tensors["down"]
            fresh.owner, fresh.alpha = tensors["owner"], nn.Parameter(tensors["alpha"].clone())
            self.stacks[name] = fresh.to(self.base.weight.device)

    def _open_branches(self) -> dict[str, LowRankBranch]:
        return {n: b for n, b in self.branches.items() if isinstance(b, LowRankBranch)}

    def _all_stacks(self) -> dict[str, DirectionStack]:
        return {n: s for n, s in self.stacks.items() if isinstance(s, DirectionStack)}

    def _padded(self, name: str, branch: LowRankBranch) -> Tensor:
        rows = self.slices[name]
        scaled = branch.magnitude * branch.up
        return functional.pad(scaled, (0, 0, rows.start, self.base.out_features - rows.stop))

    def _assemble(self, parts: Mapping[str, Tensor]) -> Tensor:
        """Puts per-slice deltas at their rows of a (out, in) matrix of zeros."""
        weight = self.base.weight
        pieces: list[Tensor] = []
        at = 0
        for name, part in sorted(parts.items(), key=lambda item: self.slices[item[0]].start):
            rows = self.slices[name]
            pieces += [weight.new_zeros(rows.start - at, self.in_features), part]
            at = rows.stop
        pieces.append(weight.new_zeros(weight.shape[0] - at, self.in_features))
        return torch.cat(pieces)
