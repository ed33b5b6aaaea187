"""Low-rank branches beside a frozen linear layer, merged or composed so that steps stay cheap."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainables.low_rank.composed import Pair, compose, composed_linear
from trainables.low_rank.directions import DirectionStack


def is_pointwise(convolution: nn.Conv2d) -> bool:
    """Whether a convolution is 1×1, of one group and without padding: linear over channels."""
    unpadded = convolution.padding in ((0, 0), "valid", "same")
    return unpadded and convolution.kernel_size == (1, 1) and convolution.groups == 1


class LowRankBranch(nn.Module):
    """magnitude · up @ down, with `down` (rank, in), `up` (out, rank) and a scalar magnitude.

    `up` starts at zero, so that a new branch changes nothing.
    """

    def __init__(self, in_dim: int, out_dim: int, rank: int) -> None:
        super().__init__()
        self.down = nn.Parameter(torch.zeros(rank, in_dim))
        self.up = nn.Parameter(torch.zeros(out_dim, rank))
        self.magnitude = nn.Parameter(torch.ones(()))

    def delta(self) -> Tensor:
        """The weight that the branch adds, (out, in)."""
        return (self.magnitude * self.up) @ self.down


class LowRankLinear(nn.Module):
    """A linear layer or 1×1 convolution with low-rank branches on named slices of its outputs.

    A 1×1 convolution (of one group) is a linear map over channels: each position is a token.
    `slices` maps a name to the output rows it covers, such as q, k, v of a fused qkv. Open
    branches and stacked directions are composed into the weight once a step (see
    `composed_linear`), without gradients once for as many batches as leave them as they are: a
    forward pass then costs what the bare layer's costs, after any number of tasks.
    """

    def __init__(self, base: nn.Linear | nn.Conv2d, slices: Mapping[str, slice]) -> None:
        super().__init__()
        if isinstance(base, nn.Conv2d) and not is_pointwise(base):
            raise ValueError(
                f"a convolution must be 1×1, of one group and without padding, but got kernel "
                f"{base.kernel_size}, {base.groups} groups and padding {base.padding}."
            )
        self.base = base
        self.slices = dict(slices)
        self.branches = nn.ModuleDict()
        self.stacks = nn.ModuleDict()
        self._merged = False
        self._bare = False
        self._closed = False
        self._kept: tuple[list[tuple[Tensor, int]], torch.dtype, Tensor] | None = None

    @property
    def in_features(self) -> int:
        """Width of the inputs."""
        return self.base.weight.shape[1]

    @property
    def weight(self) -> Tensor:
        """The frozen weight (out, in); writing into it writes into the layer."""
        return self.base.weight.flatten(1)

    def tokens(self, x: Tensor) -> Tensor:
        """The inputs (n, in) of every output: tokens, or the positions that a stride keeps."""
        return self._positions(x).flatten(0, -2)

    def add_branch(self, rank: int | Mapping[str, int]) -> dict[str, LowRankBranch]:
        """Opens a branch on every slice, by name; `rank` is that of all, or of each by its name.

        ValueError if one is open, or a rank for all is more than there are inputs.
        """
        if len(self.branches):
            raise ValueError("a branch is open already: merge or stack it first.")
        if isinstance(rank, int) and not 0 <= rank <= self.in_features:
            raise ValueError(f"rank must be in [0, {self.in_features}], but got {rank=}.")
        opened = {}
        for name, rows in self.slices.items():
            own = rank if isinstance(rank, int) else rank[name]
            branch = LowRankBranch(self.in_features, rows.stop - rows.start, own)
            self.branches[name] = opened[name] = branch.to(self.base.weight)
        return opened

    @torch.no_grad()
    def merge(self) -> None:
        """Adds the open branches to the weight and closes them (InfLoRA's integration step)."""
        for name, branch in self._open_branches().items():
            self.weight[self.slices[name]] += branch.delta()
            self._merged = True
        self.branches.clear()

    @torch.no_grad()
    def stack(self, name: str, norm: Tensor, scale: Tensor, task: int) -> None:
        """Turns the open branch of a slice into a frozen direction with a magnitude (SD-LoRA).

        See `DirectionStack.push` for `norm`, `scale` and `task`.
        """
        branch = self.branch_of(name)
        if name not in self.stacks:
            fresh = DirectionStack(self.in_features, branch.up.shape[0])
            self.stacks[name] = fresh.to(self.base.weight)
        self.stack_of(name).push(branch.up, branch.down, branch.magnitude, norm, scale, task)
        del self.branches[name]

    def train_weight(self) -> nn.Parameter:
        """The weight itself, (out, in) or (out, in, 1, 1), for a method that trains its rows."""
        self._merged = True
        return cast(nn.Parameter, self.base.weight)

    def rows(self, matrix: Tensor) -> Tensor:
        """Of a `matrix` (out, …) the rows of all slices, one below the other."""
        return torch.cat([matrix[rows] for rows in self.slices.values()])

    @torch.no_grad()
    def write_rows(self, matrix: Tensor) -> None:
        """Overwrites the rows of all slices by what `rows` would give of the new weight."""
        sizes = [rows.stop - rows.start for rows in self.slices.values()]
        for rows, part in zip(self.slices.values(), matrix.split(sizes), strict=True):
            self.weight[rows] = part
        self._merged = True

    @contextmanager
    def bare(self) -> Iterator[None]:
        """Inside, the layer is the pretrained one; ValueError if a branch was merged into it."""
        if self._merged:
            raise ValueError("a layer with merged branches is no longer the pretrained one.")
        self._bare = True
        try:
            yield
        finally:
            self._bare = False

    @contextmanager
    def closed(self) -> Iterator[None]:
        """Inside, open branches are left out: the layer is as it was when they were opened."""
        self._closed = True
        try:
            yield
        finally:
            self._closed = False

    @torch.no_grad()
    def rewrite(self, weights: Mapping[str, Tensor]) -> None:
        """Overwrites the frozen rows (n, in) of slices, by name; who does keeps what is needed.

        A checkpoint does not hold them, unlike rows that branches were merged into.
        """
        for name, weight in weights.items():
            self.weight[self.slices[name]] = weight

    def drop(self, name: str) -> None:
        """Closes the open branch of a slice and keeps nothing of it."""
        del self.branches[name]

    def branch_of(self, name: str) -> LowRankBranch:
        """The open branch of a slice."""
        return cast(LowRankBranch, self.branches[name])

    def stack_of(self, name: str) -> DirectionStack:
        """The finished directions of a slice."""
        return cast(DirectionStack, self.stacks[name])

    def delta(self) -> Tensor:
        """What open branches and stacked directions add to the weight, (out, in)."""
        parts = {name: stack.delta() for name, stack in self._all_stacks().items()}
        for name, branch in self._open_branches().items():
            parts[name] = parts[name] + branch.delta() if name in parts else branch.delta()
        return self._assemble(parts)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (…, in) to (…, out), or (n, in, h, w) to (n, out, h, w)."""
        pairs = [] if self._bare else self._pairs()
        if not pairs:
            out: Tensor = self.base(x)
            return out
        kind = x.device.type
        if torch.is_autocast_enabled(kind) and x.dtype != torch.float64:
            x = x.to(torch.get_autocast_dtype(kind))
        if not torch.is_grad_enabled():
            return self._map(x, self._composed_once(pairs, x.dtype))
        self._kept = None
        out = composed_linear(self._positions(x), self.weight, self.base.bias, pairs)
        return out.permute(0, 3, 1, 2) if isinstance(self.base, nn.Conv2d) else out

    def changes(self) -> dict[str, Any]:
        """What training changed: rows that were merged into, and stacked directions.

        This is for a checkpoint: an untouched pretrained weight is not in it.
        """
        merged = self.slices if self._merged else {}
        return {
            "rows": {name: self.weight.detach()[rows].clone() for name, rows in merged.items()},
            "stacks": {
                name: {key: value.detach() for key, value in stack.state_dict().items()}
                for name, stack in self._all_stacks().items()
            },
        }

    @torch.no_grad()
    def load_changes(self, state: dict[str, Any]) -> None:
        """Takes over what `changes` gave, onto the same pretrained layer."""
        for name, rows in state["rows"].items():
            self.weight[self.slices[name]] = rows.to(self.base.weight)
            self._merged = True
        for name, tensors in state["stacks"].items():
            fresh = DirectionStack(self.in_features, tensors["up"].shape[0])
            fresh.load(tensors)
            self.stacks[name] = fresh.to(self.base.weight)

    def _positions(self, x: Tensor) -> Tensor:
        """The inputs (…, in) of every output, channels last."""
        if not isinstance(self.base, nn.Conv2d):
            return x
        down, right = self.base.stride
        return x[:, :, ::down, ::right].permute(0, 2, 3, 1)

    def _map(self, x: Tensor, weight: Tensor) -> Tensor:
        """The layer with another weight (out, in)."""
        bias = None if self.base.bias is None else self.base.bias.to(weight.dtype)
        if isinstance(self.base, nn.Conv2d):
            return functional.conv2d(x, weight[:, :, None, None], bias, self.base.stride)
        return functional.linear(x, weight, bias)

    def _pairs(self) -> list[Pair]:
        """Stacked directions and open branches: all that is added to the weight."""
        pairs = [
            Pair(self.slices[name], stack.up, stack.scale(), stack.down)
            for name, stack in self._all_stacks().items()
        ]
        return pairs + [
            Pair(self.slices[name], branch.up, branch.magnitude, branch.down)
            for name, branch in self._forward_branches().items()
        ]

    def _composed_once(self, pairs: list[Pair], dtype: torch.dtype) -> Tensor:
        """The composed weight, kept until something in it changes or gradients are taken again.

        Changes tell by the versions of tensors. A fused optimizer's step does not count one: who
        takes such a step has to (`train_epochs` does).
        """
        parts: list[Tensor] = [self.base.weight]
        for branch in self._forward_branches().values():
            parts += branch.parameters()
        for stack in self._all_stacks().values():
            parts += [stack.up, stack.down, stack.alpha, stack.share]
        now = [(part, part._version) for part in parts]
        if self._kept is not None:
            then, kind, weight = self._kept
            same = len(then) == len(now) and all(
                before is other and count == version
                for (before, count), (other, version) in zip(then, now, strict=True)
            )
            if same and kind == dtype:
                return weight
        weight = compose(self.weight, pairs).to(dtype)
        self._kept = (now, dtype, weight)
        return weight

    def _open_branches(self) -> dict[str, LowRankBranch]:
        return {name: self.branch_of(name) for name in self.branches}

    def _forward_branches(self) -> dict[str, LowRankBranch]:
        return {} if self._closed else self._open_branches()

    def _all_stacks(self) -> dict[str, DirectionStack]:
        return {name: self.stack_of(name) for name in self.stacks}

    def _assemble(self, parts: Mapping[str, Tensor]) -> Tensor:
        """Puts per-slice deltas at their rows of a (out, in) matrix of zeros."""
        weight = self.weight
        pieces: list[Tensor] = []
        at = 0
        for name, part in sorted(parts.items(), key=lambda item: self.slices[item[0]].start):
            rows = self.slices[name]
            pieces += [weight.new_zeros(rows.start - at, self.in_features), part]
            at = rows.stop
        pieces.append(weight.new_zeros(weight.shape[0] - at, self.in_features))
        return torch.cat(pieces)
