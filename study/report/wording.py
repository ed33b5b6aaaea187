"""Intervals, p values, names and units as words."""

import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import yaml

from study.analysis.curves import Exhaustion
from study.analysis.summary import CellSummary
from study.evidence import Interval, NotEnough
from study.ledger import value_text

MOST = 8
"""Names that are listed in a sentence; the others are counted."""
MOST_ROWS = 60
"""Rows of a table on the page; a longer one is cut, and says where the rest is."""
DASH, MINUS = "\N{EN DASH}", "\N{MINUS SIGN}"


METRIC_NAMES: Mapping[str, str] = {
    "test/accuracy": "final accuracy",
    "test/average_anytime_accuracy": "average anytime accuracy",
    "test/forgetting": "forgetting",
    "subspace/dim_free": "free dimensions (mean of layers)",
    "test/readout_accuracy": "read-out accuracy",
    "test/lost/heads": "accuracy lost in the heads",
    "test/lost/inference": "accuracy lost for not being told the task",
}


def metric_name(metric: str) -> str:
    """What people call a metric, as measured after the last task."""
    return METRIC_NAMES.get(metric, metric.removeprefix("test/").replace("_", " "))


class _Dumper(yaml.SafeDumper):
    """PyYAML's safe dumper, which takes for a text what study files and YAML 1.2 do not."""


def _scalar(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    # Numbers, dates and "=" begin with no letter; what else is no text PyYAML sees itself.
    quoted = None if text[:1].isalpha() and text.isprintable() else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=quoted)


_Dumper.add_representer(str, _scalar)


def yaml_text(plain: Mapping[str, Any]) -> str:
    """Plain data as YAML that a study file may be, with its keys in their order."""
    # Through JSON, as in the ledger: a dumper refuses tuples.
    data = json.loads(json.dumps(dict(plain)))
    return str(yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True))


def bounds(mean: Interval) -> str:
    """An interval in brackets, in % or points."""
    if not math.isfinite(mean.low):
        why = "" if mean.n < 2 else ", the same on every seed"
        return f"no interval{why}, n = {mean.n}"
    return f"95 % interval {between(mean)}, n = {mean.n}"


def between(mean: Interval) -> str:
    """The ends of an interval, in % or points."""
    if not math.isfinite(mean.low):
        return DASH
    return f"{percent(mean.low)} to {percent(mean.high)}"


def listed(names: Sequence[str], most: int = MOST) -> str:
    """Names as a list for people: "a, b and c"; above `most` the rest is counted."""
    shown = list(names[:most])
    # Names with commas of their own are kept apart by something stronger.
    comma = "; " if any(", " in name for name in shown) else ", "
    if len(names) > most:
        return f"{comma.join(shown)} and {len(names) - most} more"
    return " and ".join(part for part in (comma.join(shown[:-1]), *shown[-1:]) if part)


def cut_note(rows: int) -> str:
    """Says that a table of so many rows was cut; "" where it was not."""
    if rows <= MOST_ROWS:
        return ""
    return f" The first {MOST_ROWS} of {rows} are shown; all are in report.json."


def number(value: float, digits: int = 3) -> str:
    """A number to so many digits, with a real minus sign; a dash where there is none."""
    if value != value:
        return DASH
    return f"{value:.{digits}g}".replace("-", MINUS)


def duration(seconds: float) -> str:
    """Seconds as people say them, in two units at most: "9 min 18 s"."""
    whole = round(seconds)
    for name, size, below in (("d", 86400, "h"), ("h", 3600, "min"), ("min", 60, "s")):
        if whole >= size:
            rest = (whole % size) // {"h": 3600, "min": 60, "s": 1}[below]
            return f"{whole // size} {name}" + (f" {rest} {below}" if rest else "")
    return f"{whole} s"


def moment(time: float) -> str:
    """A moment (unix seconds) as date and time."""
    return f"{datetime.fromtimestamp(time, UTC):%Y-%m-%d %H:%M} UTC"


def p_text(p: float) -> str:
    """A p value to two digits, with its relation, never written as 0."""
    if p != p:
        return DASH
    return "< 0.0001" if p < 1e-4 else f"= {p:.2g}"


def percent(value: float | None, digits: int = 1) -> str:
    """A share in %, with a real minus sign; a dash where there is none."""
    if value is None or value != value:
        return DASH
    rounded = round(100 * value, digits) + 0.0  # + 0.0 turns −0.0 into 0.0
    return f"{rounded:.{digits}f}".replace("-", MINUS)


def signed(value: float, digits: int = 1) -> str:
    """A difference in points, or a share in %, with its sign."""
    return f"{'+' if value > 0 else ''}{percent(value, digits)}"


def points(value: float) -> str:
    """A number of points, or of %, as `percent` has shares."""
    return percent(value / 100)


NO_BREAK = "\N{NO-BREAK SPACE}"


def text_rows(cells: Sequence[CellSummary]) -> list[dict[str, str]]:
    """The summary table as text: shares in %, ± is the 95 % t-interval over n seeds."""
    return [
        {
            "cell": cell.label,
            "final accuracy, %": with_interval(cell.final),
            "sd, points": percent(cell.final.std),
            "AAA, %": percent(cell.average_anytime.mean),
            "forgetting, points": percent(cell.forgetting.mean),
            "plasticity, %": percent(cell.plasticity.mean),
            "best setting": setting_text(cell.setting, "\n"),
            "best in search": _objective_text(cell),
            "search trials": _ended_text(cell.ended),
            "compute / wall, s": f"{cell.compute_seconds:.0f} / {cell.seconds:.0f}",
        }
        for cell in cells
    ]


def with_interval(mean: Interval) -> str:
    """Mean ± half the 95 % interval in %, with n; the mean alone where there is no interval."""
    if not mean.n:
        return DASH
    half = f" ± {percent(mean.half)}" if mean.n > 1 else ""
    return f"{percent(mean.mean)}{half} (n = {mean.n})"


def setting_text(setting: Mapping[str, Any], between: str = ", ") -> str:
    """A setting in words: keys as everywhere, numbers to three digits."""
    return between.join(f"{key}={value_text(value)}" for key, value in setting.items()) or DASH


def _objective_text(cell: CellSummary) -> str:
    if cell.search_value is None:
        return DASH
    named = f" {unit(cell.objective)}".rstrip()
    lines = [cell.objective, f"{text(cell.objective, cell.search_value)}{named}"]
    if cell.tuned_in is not None:
        lines.append(f"in {cell.tuned_in}")
    elif (cell.search_tasks or 0) < (cell.tasks or 0):
        lines.append(f"after {cell.search_tasks} of {cell.tasks} tasks")
    return "\n".join(lines)


def _ended_text(ended: Mapping[str, int]) -> str:
    return (
        "\n".join(f"{count}{NO_BREAK}{status}" for status, count in sorted(ended.items())) or "none"
    )


def exhaustion(cell: CellSummary) -> str:
    """Which layer of a cell ran out of free dimensions first, and when."""
    rank = str(max((trial.params.get("method.rank") or 0 for trial in cell.confirmed), default=0))
    if any(trial.params.get("method.rank_steps") for trial in cell.confirmed):
        rank += " at first, then as in method.rank_steps"
    if not cell.exhausted:
        return (
            f"{cell.label}: every layer kept at least as many free dimensions as the rank "
            f"({rank}) through all tasks."
        )
    sentence = (
        f"{cell.label}: fewer free dimensions than the rank ({rank}) first in "
        f"{_where(cell.exhausted, len(cell.confirmed))}"
    )
    if cell.empty:
        return f"{sentence}; none left at all first in {_where(cell.empty, len(cell.confirmed))}."
    return f"{sentence}; no layer was left with none at all."


def first_exhausted(cell: CellSummary) -> str:
    """The first layer and task of all seeds, in short."""
    return _place(min(cell.exhausted, key=lambda place: (place.task, place.layer)))


def _place(place: Exhaustion) -> str:
    return f"{place.layer} after task {place.task}"


def _where(places: Sequence[Exhaustion], trials: int) -> str:
    first = min(places, key=lambda place: (place.task, place.layer))
    if trials == 1:
        return f"{_place(first)} (seed {first.seed})"
    sentence = _place(first)
    if len(places) == trials and len({(place.layer, place.task) for place in places}) == 1:
        return f"{sentence} (on all {trials} seeds)"
    seeds = ", ".join(f"seed {place.seed}: {_place(place)}" for place in places)
    return f"{sentence} ({len(places)} of {trials} seeds; {seeds})"


MEGA = 1e6


def heading(metric: str) -> str:
    """The metric's name and its unit."""
    return f"{metric}, {unit(metric)}" if unit(metric) else metric


def unit(metric: str) -> str:
    """The unit a metric is shown in; empty where it has none."""
    if metric.startswith("memory/") and metric.endswith("_bytes"):
        return "MB"
    if metric.endswith("_seconds"):
        return "s"
    if metric.endswith(("forgetting", "backward_transfer")):
        return "points"
    return "%" if metric.startswith(("val/", "test/")) else ""


def shown(metric: str, value: float) -> float:
    """The value in the unit it is shown in."""
    scale = {"MB": 1 / MEGA, "points": 100.0, "%": 100.0}
    return value * scale.get(unit(metric), 1.0)


def text(metric: str, value: float | None) -> str:
    """The value in its unit as text, a dash where there is none."""
    if value is None or value != value:
        return DASH
    if unit(metric) in ("%", "points"):
        return percent(value)
    return f"{shown(metric, value):.4g}"


def by_reason(results: Sequence[tuple[str, object]]) -> dict[str, list[str]]:
    """Labels without enough data, by the reason."""
    reasons: dict[str, list[str]] = {}
    for label, result in results:
        if isinstance(result, NotEnough):
            reasons.setdefault(result.reason, []).append(label)
    return reasons


def reasons_of(results: Sequence[tuple[str, object]]) -> list[str]:
    """Labels without enough data, those with the same reason in one sentence."""
    return [
        f"{listed(labels)}: not enough data, {reason}."
        for reason, labels in by_reason(results).items()
    ]
