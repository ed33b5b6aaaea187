"""What a study took, from its ledger."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from study.ledger import Record
from study.session_walls import SessionWalls


def happened(records: Sequence[Record]) -> dict[str, float]:
    """What a study took, under the keys of its `estimate` record, which must be there."""
    ended = {one["trial"] for one in records if one["kind"] == "end"}
    hours = sum(trial_seconds(records).values()) / 3600
    metrics: dict[str, Mapping[str, Any]] = {
        one["trial"]: one["metrics"] for one in records if one["kind"] == "task"
    }
    confirmed = {
        one["trial"] for one in records if one["kind"] == "trial" and one["role"] == "confirm"
    }
    kept = sum(metrics[one].get("memory/checkpoint_bytes") or 0 for one in confirmed & {*metrics})
    ledger = sum(len(json.dumps(one)) + 1 for one in records)
    peaks = [one.get("memory/peak_device_bytes") or 0 for one in metrics.values()]
    estimates = [one for one in records if one["kind"] == "estimate"]
    guess = estimates[-1]
    share = (guess.get("gpu_hours") or 0) / (guess.get("trial_hours") or math.inf)
    walls = SessionWalls()
    for one in records:
        walls.take(one)
    return {
        "trials": len(ended),
        "trial_hours": hours,
        "gpu_hours": hours * share,
        "wall_hours": walls.total / 3600,
        "storage_bytes": kept + ledger,
        "device_bytes": max(peaks, default=0),
    }


def trial_seconds(records: Sequence[Record]) -> dict[str, float]:
    """Wall seconds of each trial, from launch to end, without the time between two sessions."""
    found: dict[str, float] = {}
    since: dict[str, float] = {}
    for one in records:
        if one["kind"] == "resumed":
            since.clear()
        elif one["kind"] == "continued":
            since[one["trial"]] = one["time"]
        elif one["kind"] in ("trial", "task", "end"):
            name = one["trial"]
            if name in since and one["kind"] != "trial":
                found[name] = found.get(name, 0.0) + one["time"] - since[name]
            elif one["kind"] == "task":
                # The first sign of a trial that went on in this session.
                found[name] = found.get(name, 0.0) + compute_seconds(one["metrics"])
            since[name] = one["time"]
    return found


def compute_seconds(metrics: Mapping[str, Any]) -> float:
    """Seconds of a task in designing, training, absorbing and evaluating."""
    return sum(
        value or 0.0
        for key, value in metrics.items()
        if key.startswith("time/") and key.endswith("_seconds")
    )
