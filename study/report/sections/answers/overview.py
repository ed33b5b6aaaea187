"""Many contrasts in a few sentences: of each opponent, who is above it and who below."""

from collections.abc import Sequence

from study.analysis.contrasts import ContrastResult
from study.report.sections.answers.contrasts import difference
from study.report.wording import listed, metric_name

FEWEST = 7
"""Contrasts from which an overview comes first: fewer are told one by one."""
FEWEST_OF_ONE = 3
"""Contrasts of one opponent that make a sentence."""


def overview(results: Sequence[ContrastResult]) -> list[str]:
    """A sentence for each opponent of several, the largest difference first; [] for few contrasts.

    Contrasts without a result are left out.
    """
    known = [result for result in results if not result.lacking]
    if len(known) < FEWEST:
        return []
    opponents: dict[tuple[str, str, str], list[ContrastResult]] = {}
    for result in known:
        opponents.setdefault((result.group, result.second, result.metric), []).append(result)
    return [
        _sentence(group, second, metric, against)
        for (group, second, metric), against in opponents.items()
        if len(against) >= FEWEST_OF_ONE
    ]


def _sentence(group: str, second: str, metric: str, against: Sequence[ContrastResult]) -> str:
    verdicts: dict[str, list[str]] = {}
    for result in sorted(against, key=lambda result: -result.look.mean):
        told = f"{result.first} ({difference(result)})"
        verdicts.setdefault(result.look.verdict, []).append(told)
    parts = [f"{verdict}: {listed(names, len(names))}" for verdict, names in verdicts.items()]
    where = f"{group}: " if group else ""
    return f"{where}against {second} in {metric_name(metric)}, {'; '.join(parts)}."
