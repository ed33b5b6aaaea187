"""Steps on half of the classes, taken from where the other half would lead (LoDA's GAO, code)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trainables.method import Backward


def halves(labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor] | None:
    """Flags (n,) of the images of half of the classes, and of the others; None of a single class.

    Which classes go together is drawn anew each time; of an odd number, the first has one less.
    """
    present = labels.unique()
    if len(present) < 2:
        return None
    order = torch.randperm(len(present), generator=generator).to(labels.device)
    first = torch.isin(labels, present[order[: len(present) // 2]])
    return first, ~first


@dataclass(frozen=True)
class Part:
    """Columns of a matrix that learns, which are moved as one tensor."""

    matrix: nn.Parameter
    columns: slice

    @torch.no_grad()
    def move(self, distance: float) -> Tensor:
        """Goes so far down along the gradient and returns the way, for `back`."""
        way = torch.zeros_like(self.matrix[:, self.columns])
        if self.matrix.grad is not None:
            gradient = self.matrix.grad[:, self.columns]
            # Without a gradient there is nowhere to go.
            length = torch.linalg.matrix_norm(gradient).clamp_min(torch.finfo(way.dtype).tiny)
            way -= distance * gradient / length
        self.matrix[:, self.columns] += way
        return way

    @torch.no_grad()
    def back(self, way: Tensor) -> None:
        """Undoes a move."""
        self.matrix[:, self.columns] -= way


def paired_steps(
    optimizer: torch.optim.Optimizer,
    backward: Backward,
    parts: Sequence[Part],
    rho: float,
    generator: torch.Generator,
) -> Tensor:
    """Two steps for the two halves of the classes of a batch; returns the mean loss of its images.

    `parts` are moved by up to `rho` along the gradient of one half, each by its own share, uniform
    in [0, 1]; the step is that of the other half's loss there; then the move is undone. A batch of
    a single class takes a plain step.
    """
    halved = halves(backward.labels, generator)
    if halved is None:
        loss = backward()
        optimizer.step()
        return loss
    total = torch.zeros((), device=backward.labels.device)
    for ahead, learned in (halved, halved[::-1]):
        backward(ahead)
        shares = torch.rand(len(parts), generator=generator).tolist()
        ways = [part.move(rho * share) for part, share in zip(parts, shares, strict=True)]
        total += backward(learned) * learned.sum()
        optimizer.step()
        for part, way in zip(parts, ways, strict=True):
            part.back(way)
    return total / len(backward.labels)
