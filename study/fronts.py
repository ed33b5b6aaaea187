"""Which results no other result beats in every objective."""

from collections.abc import Sequence


def front(points: Sequence[Sequence[float]], signs: Sequence[int]) -> list[int]:
    """Returns the indices of the points that no other one dominates.

    Of equal points the first is kept. The best in the first objective comes first; ties are
    broken by the next objectives.

    Args:
        points: one number for each objective.
        signs: for each objective 1 where more is better, −1 where less is.
    """
    gains = [tuple(s * one for s, one in zip(signs, point, strict=True)) for point in points]
    # What dominates a point is better in the first objective where they differ: it comes before.
    order = sorted(range(len(gains)), key=lambda at: tuple(-one for one in gains[at]))
    kept: list[int] = []
    for at in order:
        if not any(_covers(gains[other], gains[at]) for other in kept):
            kept.append(at)
    return kept


def _covers(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether `one` is nowhere worse."""
    return all(a >= b for a, b in zip(one, other, strict=True))
