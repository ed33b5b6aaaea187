"""What the records of a study say in a tracking store: tags, params and names of runs."""

import json
import math
import re
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
    tags = {key: record[key] for key in ("commit", "host", "chance")}
    tags["versions"] = _versions(record)
    # Ledgers of before the data sets of files have none.
    tags |= {f"split of {name}": sha256 for name, sha256 in record.get("data", {}).items()}
    if record["commit"]:
        tags["mlflow.source.git.commit"] = record["commit"]
    return tags


def trial_tags(trial: Record, session: Record, cell: Record) -> dict[str, Any]:
    """Tags of a trial's run beside those of `tags_of`: code, data and rules that it ran with.

    `session` is the record of the session that launched it, `cell` that of its cell.
    """
    search = session["spec"].get("search")
    protocol = search.get("protocol") if isinstance(search, Mapping) else None
    params = trial["params"]
    tags = {
        "protocol": cell["key"].get("search.protocol", protocol),
        "preset": params.get("preset"),
        "split_sha256": params.get("data.split_sha256"),
        "commit": session["commit"],
        "versions": _versions(session),
        "mlflow.source.git.commit": session["commit"],
    }
    return {key: one for key, one in tags.items() if one is not None}


def objective_of(spec: Mapping[str, Any]) -> Mapping[str, str]:
    """Metrics to max or min, of the spec in a record; empty where it does not say."""
    found = spec.get("objective")
    return found if isinstance(found, Mapping) else {}


def seeds_confirmed(spec: Mapping[str, Any]) -> int:
    """How many seeds the spec in a record confirms each winner on."""
    planned = spec.get("seeds") or ()
    search = spec.get("search")
    protocol = search.get("protocol") if isinstance(search, Mapping) else None
    # The first one is the search's own then.
    return len(planned) - (protocol == "transfer")


def model_name(study: str, cell: str) -> str:
    """The name under which a cell's winner is registered, of the names of study and cell.

    MLflow refuses '/' and ':' there, and commands are easier to type without spaces.
    """
    return ".".join(re.sub(r"[^A-Za-z0-9_=-]+", "-", one) for one in (study, *cell.split(" · ")))


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


def _versions(session: Record) -> str:
    return ", ".join(f"{name} {one}" for name, one in session["versions"].items())
