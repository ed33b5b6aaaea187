"""Brings what a ledger holds to MLflow."""

from typing import TYPE_CHECKING

from study.system import door

if TYPE_CHECKING:
    from study.tracking.optuna_searches import write_searches
    from study.tracking.tracker import (
        URI_VARIABLE,
        Tracker,
        browse_lines,
        default_uri,
        missing_in_mlflow,
        without_secrets,
    )
    from study.tracking.ui import UnusableUiError, has_own_store, served
    from study.tracking.writer import replay
else:
    __getattr__ = door(
        __name__,
        {
            "tracker": (
                "URI_VARIABLE",
                "Tracker",
                "browse_lines",
                "default_uri",
                "missing_in_mlflow",
                "without_secrets",
            ),
            "ui": ("UnusableUiError", "has_own_store", "served"),
            "optuna_searches": ("write_searches",),
            "writer": ("replay",),
        },
    )

__all__ = [
    "URI_VARIABLE",
    "Tracker",
    "UnusableUiError",
    "browse_lines",
    "default_uri",
    "has_own_store",
    "missing_in_mlflow",
    "replay",
    "served",
    "without_secrets",
    "write_searches",
]
