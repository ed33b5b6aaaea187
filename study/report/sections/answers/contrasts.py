"""Declared contrasts: what is tested, with the sentences of the short answer."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from study.analysis.contrasts import AFTER, ContrastResult
from study.evidence import count
from study.ledger import in_points
from study.report.figures.forest import ForestRow, forest
from study.report.section import Block, Findings, Paragraph, Picture, Section, Table
from study.report.wording import DASH, cut_note, listed, metric_name, number, points

TITLE = "Declared contrasts"
MOST_DRAWN = 40
"""Contrasts of one figure."""
MOST_ROWS = 60
ABOUT = (
    "Only these are tested; everything else on this page is a description. They are one family: "
    "the chance that any of them is wrongly called higher, or any lower, is at most 5 % over all "
    "of them and over all looks at them, {looks}. Equal is inclusion of the interval in the "
    "margin, two one-sided tests. All this takes differences over seeds for roughly normal: a few "
    "seeds that fall far below the others in one of two cells alone can break it."
)
LOOKS = {
    True: "since the error rate is spent as (n / at_most)² over the looks (Lan and DeMets 1983, "
    "Kim and DeMets 1987) and shared evenly by the contrasts (Bonferroni)",
    False: "of which there is one (paired t-test, Bonferroni's correction over the contrasts)",
}
SPEAK = (
    "Intervals (95 %, all of them at once) speak of seeds and class orders on these test images: "
    "other test images of the same kind, or other data, could differ by more."
)
LATER = (
    "Declared after the data: {count}. Who has seen results before choosing what to compare can "
    "find a difference that is none; such contrasts share an error rate of their own."
)
MOST_FIRST = 18
"""Contrasts of the figure beside the answer."""
FIGURE = (
    "Difference of each contrast, first minus second, with its interval; the shaded band is the "
    "margin{margin} on both sides of 0, in which nothing counts as different. Higher or lower: the "
    "interval lies on one side of 0. Equal: it lies in the band. All else is undecided."
)


def section(findings: Findings) -> Section:
    """Figure and table; nothing on the page where nothing was declared."""
    results = findings.contrasts
    data = {"contrasts": [_data(result) for result in results]}
    if not results:
        return Section(TITLE, (), data)
    later = sum(result.declared == AFTER for result in results)
    about = [ABOUT.format(looks=LOOKS[findings.until_decided])]
    about += [LATER.format(count=f"{later} of {len(results)}")] if later else []
    rows = [_row(result) for result in results[:MOST_ROWS]]
    same = {key for key in rows[0] if key in ("cells", "metric", "declared", "seeds to decide")}
    same = {key for key in same if {row[key] for row in rows} in ({""}, {DASH}, {"final accuracy"})}
    shown = [{key: row[key] for key in row if key not in same} for row in rows]
    blocks: tuple[Block, ...] = (
        Paragraph(" ".join(about) + cut_note(len(results))),
        *_further_pictures(results),
        Table(shown, ("points", "seeds", "seeds to decide")),
    )
    return Section(TITLE, blocks, data)


def _data(result: ContrastResult) -> dict[str, Any]:
    found = result.look
    return {
        "name": result.name,
        "first": result.first,
        "second": result.second,
        "group": result.group,
        "cells": result.cells,
        "metric": result.metric,
        "margin": result.margin,
        "seeds": found.seeds,
        "mean": found.mean,
        "std": found.std,
        "low": found.low,
        "high": found.high,
        "verdict": found.verdict,
        "reason": found.reason,
        "by_less_than_margin": found.by_less_than_margin,
        "non_inferior": found.non_inferior,
        "non_inferiority": result.non_inferiority,
        "declared": result.declared,
        "so_far": result.so_far,
        "of_earlier_settings": result.earlier,
        "next_seeds": found.next_seeds,
        "pending_seeds": result.pending,
        "failed_seeds": result.failed,
        "seeds_to_decide": result.seeds_to_decide,
    }


def sentences(results: Sequence[ContrastResult]) -> list[str]:
    """A sentence a contrast; of several that lack a result a single one."""
    lacking = [result for result in results if result.lacking]
    if len(lacking) < 2:
        return [sentence(result) for result in results]
    arms = {
        f"{name}, {result.group}" if result.group else name
        for result in lacking
        for name in result.lacking
    }
    yet = " yet" if any(result.so_far for result in lacking) else ""
    told = (
        f"Undecided: {len(lacking)} of {count(len(results), 'contrast')}, since there is no "
        f"result{yet} of {listed(sorted(arms))}."
    )
    return [*(sentence(result) for result in results if not result.lacking), told]


def sentence(result: ContrastResult) -> str:
    """Who, by how much, interval, seeds, verdict, as one sentence for people."""
    found, first, second = result.look, result.first, result.second
    where = f"{result.group}: " if result.group else ""
    what = metric_name(result.metric)
    if found.verdict in ("higher", "lower"):
        note = ", less than the margin" if found.by_less_than_margin else ""
        # Who is lower by how much is told without a sign.
        above = result if found.verdict == "higher" else _turned(result)
        text = (
            f"{first} is {found.verdict} than {second} in {what} by "
            f"{_value(above, above.look.mean)}{_unit(result)} ({_between(above)}){note}"
        )
    elif found.verdict == "equal":
        text = (
            f"{first} and {second} are equal in {what} within the margin of "
            f"{_margin(result)}: {difference(result)} ({_between(result)})"
        )
    elif found.verdict == "identical":
        seeds = count(len(found.seeds), "seed")
        text = f"{first} and {second} are identical in {what} on all {seeds}, so nothing is tested"
    else:
        text = f"{first} against {second} in {what} is undecided: {_why(result)}"
    if result.non_inferiority and found.non_inferior and found.verdict != "higher":
        text += f"; {first} is shown not to be lower by {_margin(result)} or more"
    if result.earlier:
        text += "; of the settings that were chosen before the search went on"
    if result.so_far:
        text += f"; so far, {_still(result)}"
    later = "; declared after the data" if result.declared == AFTER else ""
    return f"{where}{text}{later}."


def _turned(result: ContrastResult) -> ContrastResult:
    """The second minus the first."""
    found = result.look
    turned = replace(found, mean=-found.mean, low=-found.high, high=-found.low)
    return replace(result, look=turned)


def _why(result: ContrastResult) -> str:
    """Why a contrast is undecided, and what would decide it."""
    found = result.look
    seeds = count(len(found.seeds), "seed")
    if found.reason == "wide":
        return f"{difference(result)} ({_between(result)}); {_to_decide(result)}"
    if found.reason == "no_spread":
        return (
            f"the difference is {difference(result)} on each of {seeds}, and without a spread "
            f"nothing tells how much another seed would differ"
        )
    if found.reason == "not_finite":
        return "a value is missing or is no finite number"
    if result.lacking:
        return f"{listed(result.lacking)} {'have' if len(result.lacking) > 1 else 'has'} no result"
    measured = f"{difference(result)} on " if found.seeds else ""
    few = f"{measured}{count(len(found.seeds), 'common seed')}"
    lost = f" (failed on {_seeds(result.failed)})" if result.failed else ""
    if result.pending:
        return few + lost
    return f"{few}{lost}, which is too few for an interval; {_to_decide(result)}"


def _to_decide(result: ContrastResult) -> str:
    found = result.look
    if not found.std > 0:
        return "no spread was measured that tells how many seeds would decide it"
    if result.seeds_to_decide is None:
        return "more than 10,000 seeds would be needed to decide it"
    return (
        f"about {result.seeds_to_decide} seeds would decide it if mean and spread stay as measured"
    )


def _still(result: ContrastResult) -> str:
    seeds = result.pending or result.look.next_seeds
    return f"with {_seeds(seeds)} still to come"


def _seeds(seeds: Sequence[int]) -> str:
    return f"seed{'' if len(seeds) == 1 else 's'} {listed([str(seed) for seed in seeds])}"


def _unit(result: ContrastResult) -> str:
    """The word behind a difference: shares are in points, others in the metric's own unit."""
    return " points" if in_points(result.metric, 1.0) != 1.0 else ""


def _value(result: ContrastResult, value: float) -> str:
    return points(value) if _unit(result) else number(value)


def difference(result: ContrastResult) -> str:
    """By how much the first is above the second, with its sign and unit."""
    text = _value(result, result.look.mean)
    # What is rounded to 0 has no sign.
    sign = "+" if result.look.mean > 0 and text.strip("0.") else ""
    return f"{sign}{text}{_unit(result)}"


def _margin(result: ContrastResult) -> str:
    unit = _unit(result)
    return f"{result.margin:g}{unit[:-1] if result.margin == 1 else unit}"


def _interval(result: ContrastResult) -> str:
    found = result.look
    if not math.isfinite(found.low):
        return DASH
    return f"{_value(result, found.low)} to {_value(result, found.high)}"


def _between(result: ContrastResult) -> str:
    return f"95 % interval {_interval(result)}, {count(len(result.look.seeds), 'seed')}"


def verdict_text(result: ContrastResult) -> str:
    """The verdict in a few words, for a table or beside a figure."""
    found = result.look
    text: str = found.verdict
    if found.by_less_than_margin:
        text += ", by less than the margin"
    if found.verdict == "equal":
        text += f" within ±{result.margin:g}"
    if found.reason:
        reasons = {"few_seeds": "few seeds", "no_spread": "no spread", "not_finite": "no number"}
        text += f" ({reasons[found.reason]})" if found.reason in reasons else ""
    if result.non_inferiority and found.non_inferior and found.verdict != "higher":
        text += ", not inferior"
    return f"{text}, so far" if result.so_far else text


def _row(result: ContrastResult) -> dict[str, str]:
    found = result.look
    decide = "" if result.seeds_to_decide is None else f"about {result.seeds_to_decide}"
    return {
        "cells": result.group,
        "first minus second": f"{result.first} minus {result.second}",
        "metric": metric_name(result.metric),
        "points": _value(result, found.mean),
        "95 % interval": _interval(result),
        "seeds": str(len(found.seeds)),
        "margin": f"±{result.margin:g}",
        "verdict": verdict_text(result),
        "seeds to decide": decide,
        "declared": result.declared if result.declared == AFTER else "",
    }


def first_picture(results: Sequence[ContrastResult]) -> Picture | None:
    """The figure beside the answer: the first contrasts of the first unit that have a number."""
    known = _with_number(results)
    return _picture(_of_unit(known, _axis(known[0])), MOST_FIRST) if known else None


def _further_pictures(results: Sequence[ContrastResult]) -> list[Picture]:
    """A figure for each unit, but for what stands beside the answer already."""
    known = _with_number(results)
    units = list(dict.fromkeys(map(_axis, known)))
    if len(known) <= MOST_FIRST:
        units = units[1:]
    return [_picture(_of_unit(known, unit), MOST_DRAWN) for unit in units]


def _with_number(results: Sequence[ContrastResult]) -> list[ContrastResult]:
    return [result for result in results if math.isfinite(result.look.mean)]


def _of_unit(results: Sequence[ContrastResult], unit: str) -> list[ContrastResult]:
    return [result for result in results if _axis(result) == unit]


def _picture(results: Sequence[ContrastResult], most: int) -> Picture:
    """Contrasts of one unit."""
    unit = _axis(results[0])
    name_metric = len({result.metric for result in results}) > 1
    groups = {result.group for result in results}
    group = groups.pop() if len(groups) == 1 else None
    rows = [_drawn(result, name_metric, group) for result in results[:most]]
    left = len(results) - len(rows)
    where = "Below" if most == MOST_FIRST else "In the table and in report.json"
    notes = (f"{where}: {count(left, 'more contrast')}.",) if left else ()
    margins = {_margin(result) for result in results}
    margin = f" of {margins.pop()}" if len(margins) == 1 else ""
    drawn = partial(forest, rows, unit)
    about = f"Contrasts of {group}" if group else "Contrasts"
    return Picture(f"{about}, {unit}", FIGURE.format(margin=margin), drawn, notes)


def _axis(result: ContrastResult) -> str:
    if _unit(result):
        return "difference in points"
    return f"difference in {metric_name(result.metric)}"


def _drawn(result: ContrastResult, name_metric: bool, group: str | None) -> ForestRow:
    """`group` is what all have in common: it is said once, above the figure."""
    parts = [
        result.group if group is None else "",
        metric_name(result.metric) if name_metric else "",
    ]
    label = ", ".join([f"{result.first} minus {result.second}", *filter(None, parts)])
    found = result.look
    sign = "+" if found.mean > 0 else ""
    note = f"{sign}{_value(result, found.mean)} {verdict_text(result)}, n = {len(found.seeds)}"
    return ForestRow(label, found.mean, found.low, found.high, result.margin, found.verdict, note)


def counted(results: Sequence[ContrastResult]) -> str:
    """How often there was which verdict."""
    verdicts = Counter(result.look.verdict for result in results)
    return listed([f"{number} {verdict}" for verdict, number in verdicts.most_common()])
