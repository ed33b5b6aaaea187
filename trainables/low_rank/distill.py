"""Least squares of a new pair on old directions (SD-LoRA-KD), from thin products only."""

from collections.abc import Sequence

import torch
from torch import Tensor

from trainables.low_rank.branch import LowRankBranch
from trainables.low_rank.directions import DirectionStack, pair_norm

# Eigenvalues of the Gram matrix below this share of the largest are taken as 0: what they hold
# would need magnitudes of over 1e4, which cancel one another and leave float32 rounding.
GRAM_TOLERANCE = 1e-8


def fit(stacks: Sequence[DirectionStack], pairs: Sequence[LowRankBranch]) -> tuple[Tensor, float]:
    """Solves min_c Σ_b ‖up_b down_b − Σ_k c_k share_bk unit_bk‖²_F over the slices b of one α.

    Returns c (old pairs,) in float64, and the smallest value relative to Σ_b ‖up_b down_b‖²_F:
    a squared residual in [0, 1], and so the share of the new pair's energy that the old
    directions miss. It is 0 for a pair of zeros. Both are those of the unit pair: c is Δα of the
    paper times the pair's norm, and the relative residual does not change with the norm.
    """
    first = stacks[0].up
    gram = torch.zeros(len(stacks[0]), len(stacks[0]), dtype=torch.float64, device=first.device)
    moment = gram.new_zeros(len(stacks[0]))
    energy = gram.new_zeros(())
    for stack, pair in zip(stacks, pairs, strict=True):
        share = stack.share.double()
        up, down = pair.up.detach(), pair.down.detach()
        gram += share[:, None] * stack.gram() * share
        moment += share * stack.inner(up, down)
        energy += pair_norm(up, down, "frobenius").square()
    if not float(energy) > 0:
        return torch.zeros_like(moment), 0.0
    coefficients = torch.linalg.pinv(gram, rtol=GRAM_TOLERANCE, hermitian=True) @ moment
    missed = energy - 2 * moment @ coefficients + coefficients @ gram @ coefficients
    return coefficients, max(0.0, float(missed / energy))
