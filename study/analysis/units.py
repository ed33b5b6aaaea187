"""In which unit a metric is shown to people."""

from study.analysis.wording import DASH, percent

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
