"""Finds icon names that are synonyms: names under which families store the same bitmap."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from itertools import combinations

MIN_AGREEMENT = 0.2  # share of the families drawing both names that draw them alike
MIN_VETO_FAMILIES = 5  # families drawing both that make a lower agreement count against a merge


def group_synonyms(
    drawings: Iterable[tuple[str, str, tuple[bytes, ...]]],
) -> list[tuple[str, ...]]:
    """Partition the names of (name, family, bitmap keys) into groups of synonyms.

    Two names agree in a family when a bitmap is stored under both and the family owns one of them.
    The pairs are merged in falling order of agreement if it reaches `MIN_AGREEMENT`, unless that
    would join two names which many families draw both and draw differently: a slip in one family
    (the same file for `file` and `folder`) must not chain classes together. Within a group the
    name drawn by most families comes first; the groups are sorted.
    """
    families: defaultdict[str, set[str]] = defaultdict(set)
    owners: defaultdict[bytes, set[tuple[str, str]]] = defaultdict(set)
    for name, family, keys in drawings:
        families[name].add(family)
        for key in keys:
            owners[key].add((name, family))
    shared = _shared_families(owners.values())

    def agreement(pair: tuple[str, str]) -> float:
        both = len(families[pair[0]] & families[pair[1]])
        return len(shared.get(pair, ())) / max(both, 1)

    def differs(pair: tuple[str, str]) -> bool:
        both = len(families[pair[0]] & families[pair[1]])
        return both >= MIN_VETO_FAMILIES and agreement(pair) < MIN_AGREEMENT

    group_of = {name: frozenset([name]) for name in families}
    for pair in sorted(shared, key=lambda pair: (-agreement(pair), pair)):
        left, right = group_of[pair[0]], group_of[pair[1]]
        if left == right or agreement(pair) < MIN_AGREEMENT:
            continue
        if any(differs((min(a, b), max(a, b))) for a in left for b in right):
            continue
        for name in left | right:
            group_of[name] = left | right
    groups = {
        tuple(sorted(group, key=lambda name: (-len(families[name]), name)))
        for group in group_of.values()
    }
    return sorted(groups)


def _shared_families(
    owner_sets: Iterable[set[tuple[str, str]]],
) -> dict[tuple[str, str], set[str]]:
    shared: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for owners in owner_sets:
        names = sorted({name for name, _ in owners})
        for pair in combinations(names, 2):
            shared[pair].add(min(family for name, family in owners if name in pair))
    return dict(shared)
