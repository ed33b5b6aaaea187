"""How prompts are learned: where they start, votes, pulls of keys, what released code mixes up."""

from collections.abc import Sequence

import torch
from torch import Tensor

from trainables.prompts.applied import unit

# Least and most of the uniform start, by the name that configs have for it.
STARTS = {"small": (0.0, 0.01), "symmetric": (-1.0, 1.0), "positive": (0.0, 1.0)}


def start(shape: tuple[int, ...], init: str, generator: torch.Generator) -> Tensor:
    """Draws prompts or keys uniformly, as `STARTS` says."""
    low, high = STARTS[init]
    return torch.empty(shape).uniform_(low, high, generator=generator)


def voted(ids: Tensor, pool: int) -> Tensor:
    """For all images the ids that were chosen most often: (n, k) from (n, k) of `pool` ids.

    Of equals the smallest. What an image gets depends on the others of its batch.
    """
    counts = torch.bincount(ids.flatten(), minlength=pool)
    most = counts.sort(descending=True, stable=True).indices[: ids.shape[1]]
    return most.expand(len(ids), -1)


def pull(similarity: Tensor, ids: Tensor) -> Tensor:
    """Mean over images of the summed cosines to their chosen keys.

    `similarity` (n, keys), `ids` (n, k).
    """
    return similarity.gather(1, ids).sum(1).mean()


def crossed_push(similarity: Tensor, ids: Tensor) -> Tensor:
    """Σ (1 − cosine) of every image against every image's chosen keys, as released in L2P++.

    What was meant is each image against its own. No mean over images: it grows with the batch.
    """
    return (1 - similarity[:, ids]).sum()


def chosen_of(ids: Tensor, pool: int) -> Tensor:
    """Which of `pool` prompts each image got, as flags (n, pool) of ids (n, k)."""
    flags = torch.zeros(len(ids), pool, dtype=torch.bool, device=ids.device)
    return flags.scatter_(1, ids, True)


def gathered(prompts: Sequence[Tensor], ids: Tensor) -> Tensor:
    """The prompts (n, …) of `ids` (n,), of as many as are named and no more."""
    used, place = ids.unique(return_inverse=True)
    return torch.stack([prompts[number] for number in used.tolist()])[place]


def leaked(rows: Tensor) -> Tensor:
    """Prompts (n, blocks, 2, length, width) as the released torch code hands them out.

    It has them as (blocks, 2, n, …) and reshapes to (blocks, n, 2, …) without swapping axes:
    images get keys or values of other images, as both.
    """
    n, blocks, pair = rows.shape[:3]
    by_block = rows.permute(1, 2, 0, *range(3, rows.ndim)).contiguous()
    return by_block.reshape(blocks, n, pair, *rows.shape[3:]).transpose(0, 1)


def similarities(rows: Tensor) -> tuple[float, float]:
    """Mean and largest |cosine| of different rows (m, …), flattened; zeros of fewer than two."""
    if len(rows) < 2:
        return 0.0, 0.0
    flat = unit(rows.detach().flatten(1))
    cosines = (flat @ flat.T).abs()
    others = cosines[~torch.eye(len(rows), dtype=torch.bool, device=rows.device)]
    return float(others.mean()), float(others.max())
