"""Random tensors that are the same in every run."""

import torch
from torch import Tensor


def seeded(seed: int = 0) -> torch.Generator:
    """A generator of its own."""
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int | torch.Generator = 0) -> Tensor:
    """Independent N(0, 1) in float64."""
    generator = seeded(seed) if isinstance(seed, int) else seed
    return torch.randn(*shape, generator=generator, dtype=torch.float64)
