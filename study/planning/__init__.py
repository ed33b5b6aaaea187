"""From a study file to a plan: what runs, on which data, at which cost."""

from typing import TYPE_CHECKING

from study.system import door

if TYPE_CHECKING:
    from study.planning.cells import Cell, Plan, PlannedTrial, Role
    from study.planning.plan import extended_plan, load_plan
    from study.planning.schema import study_schema
    from study.planning.spec import StudySpec
else:
    __getattr__ = door(
        __name__,
        {
            "cells": ("Cell", "Plan", "PlannedTrial", "Role"),
            "plan": ("extended_plan", "load_plan"),
            "schema": ("study_schema",),
            "spec": ("StudySpec",),
        },
    )

__all__ = [
    "Cell",
    "Plan",
    "PlannedTrial",
    "Role",
    "StudySpec",
    "contrasts",
    "costs",
    "data",
    "extended_plan",
    "load_plan",
    "openings",
    "sections",
    "space",
    "study_schema",
]
