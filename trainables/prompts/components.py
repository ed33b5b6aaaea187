"""CODA-Prompt's rows: orthogonal starts and the penalty that keeps them so."""

import torch
from torch import Tensor

# Shorter rests are rounding: what they point at is drawn again, a few times.
LEAST_SQUARE = 1e-8
DRAWS = 5


def orthogonality_penalty(rows: Tensor) -> Tensor:
    """mean((X Xᵀ − I)²) of rows X (m, width); 0 if they are orthonormal."""
    gram = rows @ rows.T
    return (gram - torch.eye(len(rows), dtype=rows.dtype, device=rows.device)).square().mean()


def new_rows(old: Tensor, count: int, form: str, generator: torch.Generator) -> Tensor:
    """Draws `count` rows of unit length behind `old` (s, width), orthogonal to each other.

    "exact": also to all that `old` spans. "released": what is along each old row is taken off the
    drawn row by itself, so that a new row is orthogonal to old ones only where these are to each
    other. Where the space is full, rows are drawn without being orthogonal to anything.
    """
    earlier = old.double().cpu()
    if form == "exact" and len(earlier):
        # An orthonormal basis of what they span.
        _, values, axes = torch.linalg.svd(earlier, full_matrices=False)
        earlier = axes[values > values[0].clamp(min=LEAST_SQUARE) * 1e-6]
    rows: list[Tensor] = []
    for _ in range(count):
        rest = _rest(earlier, generator)
        rows.append(rest / rest.norm())
        earlier = torch.cat([earlier, rest[None]])
    return torch.stack(rows).to(old)


def without_earlier(drawn: Tensor, earlier: Tensor) -> Tensor:
    """`drawn` (width,) less its part along each of `earlier` (m, width): Gram and Schmidt's step.

    All parts are of what was drawn, not of what is left: orthogonal only to orthogonal rows.
    """
    shares = (earlier @ drawn) / earlier.square().sum(1)
    return drawn - shares @ earlier


def _rest(earlier: Tensor, generator: torch.Generator) -> Tensor:
    """A drawn row without what is along earlier ones; with it where nothing else is left."""
    for _ in range(DRAWS):
        drawn = torch.randn(earlier.shape[1], generator=generator, dtype=torch.float64)
        rest = without_earlier(drawn, earlier) if len(earlier) else drawn
        if rest.square().sum() >= LEAST_SQUARE:
            return rest
    return drawn
