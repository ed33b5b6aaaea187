"""Who leads in each group of cells, and what is shown of it."""

from collections.abc import Sequence
from dataclasses import dataclass

from study.analysis.scaling import Comparison, Interval
from study.analysis.summary import CellSummary

TIE = 1e-9


@dataclass(frozen=True)
class Standing:
    """The highest mean final accuracy of a group of cells, among what is under study.

    `best` are the names with that mean. The others of the group are told apart by paired
    comparisons with the first of `best`: shown to be lower (`better_than`), shown to be higher
    (`worse_than`), `identical` on every common seed, or neither (`open`). `references_above` are
    reference points whose mean is at least as high, with it; `chance` is the accuracy of guessing.
    """

    group: str
    best: tuple[str, ...]
    final: Interval
    chance: float | None
    better_than: tuple[str, ...]
    worse_than: tuple[str, ...]
    open: tuple[str, ...]
    identical: tuple[str, ...]
    references_above: tuple[tuple[str, float], ...]

    @property
    def compared(self) -> bool:
        """Whether there was anything to compare the best with."""
        return bool(self.better_than or self.worse_than or self.open or self.identical)

    @property
    def name(self) -> str:
        """The first of the best and where it leads."""
        return f"{self.best[0]}, {self.group}"


def standings(cells: Sequence[CellSummary], comparisons: Sequence[Comparison]) -> list[Standing]:
    """One for every group that has a confirmed cell, in the order of the cells."""
    found = []
    for group in dict.fromkeys(one.group for one in cells):
        measured = [one for one in cells if one.group == group and one.final.n]
        if measured:
            pairs = [one for one in comparisons if one.group == group]
            found.append(_standing(group, measured, pairs))
    return found


def _standing(group: str, measured: Sequence[CellSummary], pairs: Sequence[Comparison]) -> Standing:
    studied = [one for one in measured if not one.reference] or list(measured)
    best = max(studied, key=lambda one: one.final.mean)
    level = best.final.mean - TIE
    told: dict[str, list[str]] = {"better": [], "worse": [], "open": [], "identical": []}
    for pair in pairs:
        if best.contender not in (pair.first, pair.second) or not pair.seeds:
            continue
        first = pair.first == best.contender
        gain = pair.difference.mean if first else -pair.difference.mean
        word = "identical" if pair.identical else "open"
        if pair.enough_evidence:
            word = "better" if gain > 0 else "worse"
        told[word].append(pair.second if first else pair.first)
    return Standing(
        group=group,
        best=tuple(one.contender for one in studied if one.final.mean >= level),
        final=best.final,
        chance=best.chance,
        better_than=tuple(told["better"]),
        worse_than=tuple(told["worse"]),
        open=tuple(told["open"]),
        identical=tuple(told["identical"]),
        references_above=tuple(
            (one.contender, one.final.mean)
            for one in measured
            if one not in studied and one.final.mean >= level
        ),
    )
