"""What the records of a study say in a tracking store: tags, params and names of runs."""

import json
import math
from collections.abc import Mapping
from typing import Any

from study.ledger import Record


def finite(metrics: Mapping[str, float | None]) -> dict[str, float]:
    """Returns the metrics that have a finite value."""
    return {
        key: float(value)
        for key, value in metrics.items()
        if value is not None and math.isfinite(value)
    }


def tags_of(record: Record) -> dict[str, Any]:
    """Tags of the run that a record opens."""
    tags = {"mlflow.source.name": "study/run.py", "mlflow.source.type": "LOCAL"}
    keys: tuple[str, ...] = ("role", "cell", "seed", "trial")
    if record["kind"] == "study":
        keys = ("question",)
        tags |= {
            "role": "study",
            "mlflow.note.content": record["question"],
            **provenance_tags(record),
        }
    elif record["kind"] == "cell":
        keys = ("cell",)
        tags["role"] = "cell"
    return tags | {key: record[key] for key in keys}


def provenance_tags(record: Record) -> dict[str, Any]:
    """Tags that tell what code and data a session of a study ran with."""
    versions = ", ".join(f"{name} {one}" for name, one in record["versions"].items())
    tags = {key: record[key] for key in ("commit", "host", "chance")} | {"versions": versions}
    # Ledgers of before the data sets of files have none.
    tags |= {f"split of {name}": sha256 for name, sha256 in record.get("data", {}).items()}
    if record["commit"]:
        tags["mlflow.source.git.commit"] = record["commit"]
    return tags


def params_of(record: Record) -> dict[str, Any]:
    """Params of the run that a record opens."""
    if record["kind"] == "trial":
        return dict(record["params"])
    if record["kind"] == "cell":
        # Ranges under a prefix: beside them the column of a searched key stays numeric.
        ranges = {f"range/{key}": value for key, value in record["search"].items()}
        return {**record["fixed"], **record["key"], **ranges}
    return {}


def short(key: str, value: Any) -> str:
    """A cell's key and value as a person would say them."""
    if key == "data.tasks":
        return f"{value} tasks"
    if key == "search.tuned_on":
        return f"tuned on {value}"
    return value if isinstance(value, str) else f"{key.rpartition('.')[2]} {json.dumps(value)}"
