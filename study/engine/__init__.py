"""Runs a plan on Ray, and turns what happens into records."""

from typing import TYPE_CHECKING

from study.system import door

if TYPE_CHECKING:
    from study.engine.cluster_address import expect_cluster, on_cluster
    from study.engine.model_export import export_models
    from study.engine.tuner import run_study
else:
    __getattr__ = door(
        __name__,
        {
            "cluster_address": ("expect_cluster", "on_cluster"),
            "model_export": ("export_models",),
            "tuner": ("run_study",),
        },
    )

__all__ = ["expect_cluster", "export_models", "on_cluster", "run_study"]
