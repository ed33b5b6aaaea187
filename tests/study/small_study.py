"""A small study for tests: four tasks of made-up data, or any change of it."""

from typing import Any

from study.planning import Plan, make_plan
from study.spec import StudySpec

FIXED = {
    "data.name": "gaussian",
    "data.classes": 8,
    "data.image_size": 8,
    "data.augmentation": "none",
    "backbone.name": "test_vit",
    "backbone.pretrained": False,
    "optim.epochs": 1,
}


def small_plan(**changes: Any) -> Plan:
    """Plans the small study; a change replaces a whole section, `fixed` is added to."""
    plain: dict[str, Any] = {
        "name": "small",
        "question": "Does it run?",
        "grid": {"method.name": ["inflora", "sd_lora"], "data.tasks": [2, 4]},
        "trials": 3,
        "seeds": [0, 1],
        **changes,
    }
    axes = plain["grid"]
    fixed = {key: value for key, value in FIXED.items() if key not in axes}
    plain["fixed"] = {**fixed, **changes.get("fixed", {})}
    return make_plan(StudySpec.from_plain(plain, source="small.yaml"))
