"""The JSON Schema of a study file: what it accepts, what it refuses, and what it says."""

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from study import run, yaml_text
from study.schema import study_schema
from study.schema_parts import of_type
from study.spec import RESERVED, StudySpec
from tests.study.test_readme import blocks
from trainables import catalog
from trainables.config import known_keys

SPECS = sorted((Path(run.__file__).parent / "specs").glob("*.yaml"))
SCHEMA = study_schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
GOOD: dict[str, Any] = {
    "name": "small",
    "question": "Does it run?",
    "grid": {"method.name": ["inflora", "sd_lora"], "data.tasks": [2, 4]},
}


def accepts(plain: Mapping[str, Any]) -> bool:
    return bool(VALIDATOR.is_valid(plain))


def test_it_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_every_study_that_comes_along_fits(path: Path) -> None:
    plain = yaml_text.parse(path.read_text(encoding="utf-8"))
    assert not [one.message for one in VALIDATOR.iter_errors(plain)]


def test_the_study_in_the_readme_fits() -> None:
    assert accepts(yaml_text.parse(blocks("yaml")[0]))


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_a_study_with_every_key_fits(path: Path) -> None:
    plain = json.loads(json.dumps(StudySpec.load(path).to_plain()))
    assert not [one.message for one in VALIDATOR.iter_errors(plain)]


@pytest.mark.parametrize(
    "changes",
    [
        {"search": "none"},
        {"search": {"inflora": ["optim.lr"], "sd_lora": {"method.tau": None}}},
        {"search": {"inflora": {"method.rank": {"low": 2, "high": 8, "log": True}}}},
        {"search": {"sd_lora": {"method.normaliser": {"choices": ["frobenius", "factor_norms"]}}}},
        {"search": {"inflora": {"method.align_lr": {"when": {"method.align": True}}}}},
        {"search": {"space": "all", "protocol": "first_k_tasks", "first_tasks": 2}},
        {"search": {"protocol": "transfer", "confirm_on": [{"data.name": "cub200"}]}},
        {"seeds": "published"},
        {"objective": "val/accuracy"},
        {"objective": ["val/accuracy", "memory/branch_bytes"]},
        {"resources": {"cpu": 2, "gpu": "auto"}},
        {"resources": {"gpu": 0.5}},
        {"fixed": {"data.name": "folder:birds", "preset": "paper", "optim.head_lr": None}},
        {"fixed": {"recipe": "inflora/imagenet_r", "backbone.blocks": [0, 3]}},
        {"budget": {"gpu_hours": 3}, "storage": "/data", "max_concurrent": None},
    ],
)
def test_what_a_study_may_say_is_accepted(changes: dict[str, Any]) -> None:
    assert not [one.message for one in VALIDATOR.iter_errors({**GOOD, **changes})]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trails": 3}, "Additional properties are not allowed ('trails' was unexpected)"),
        ({"trials": "3"}, "'3' is not of type 'integer'"),
        ({"trials": 0}, "0 is less than the minimum of 1"),
        ({"grid": {}}, "{} should be non-empty"),
        ({"grid": {"data.tasks": 4}}, "4 is not of type 'array'"),
        ({"grid": {"data.task": [4]}}, "'data.task' was unexpected"),
        ({"grid": {"method.name": ["inflorra"]}}, "'inflorra' is not one of ['averaged_lora'"),
        ({"fixed": {"optim.epochs": 2.5}}, "2.5 is not of type 'integer'"),
        ({"fixed": {"seed": 3}}, "'seed' was unexpected"),
        ({"fixed": {"data.evaluation": "test"}}, "'data.evaluation' was unexpected"),
        ({"fixed": {"method.energy": "sigma3"}}, "'sigma3' is not one of ['sigma4', 'sigma2']"),
        ({"fixed": {"preset": "papers"}}, "'papers' is not one of"),
        ({"sampler": "tpee"}, "'tpee' is not one of ['tpe'"),
        ({"pruner": {"kind": "hyperband"}}, "'hyperband' is not one of ['asha', 'none']"),
        ({"pruner": {"rung": 3}}, "'rung' was unexpected"),
        ({"storage": "results"}, "'results' does not match '^/'"),
        ({"objective": "test/accuracy"}, "'test/accuracy' is not valid under any"),
        ({"search": {"inflora": {"method.tau": None}}}, "is not valid under any"),
        ({"search": {"inflora": {"method.rank": {"low": 2}}}}, "is not valid under any"),
        ({"search": {"inflora": {"data.tasks": {"choices": [1]}}}}, "is not valid under any"),
        ({"search": {"protocol": "online"}}, "is not valid under any"),
        ({"resources": {"gpu": "all"}}, "'all' is not valid under any"),
        ({"seeds": []}, "[] is not valid under any"),
    ],
)
def test_usual_mistakes_are_refused(changes: dict[str, Any], message: str) -> None:
    errors = [one.message for one in VALIDATOR.iter_errors({**GOOD, **changes})]
    assert any(message in one for one in errors), errors


@pytest.mark.parametrize("key", ["name", "question", "grid"])
def test_what_must_be_there_is_required(key: str) -> None:
    plain = copy.deepcopy(GOOD)
    del plain[key]
    assert not accepts(plain)


def test_every_key_has_words_and_those_of_a_method_are_its_own() -> None:
    assert all(one["description"] for one in SCHEMA["properties"].values())
    keys = {key for method in catalog.methods() for key in known_keys(method)}
    for key in keys - set(RESERVED):
        assert len(SCHEMA["$defs"][key]["description"]) > 10, key
    assert "micro_batch" in SCHEMA["$defs"]["optim.micro_batch"]["description"]
    for section in ("pruner", "budget", "resources"):
        assert all(
            one["description"] for one in SCHEMA["properties"][section]["properties"].values()
        )


def test_it_is_printed_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(["--schema"]) == 0
    assert json.loads(capsys.readouterr().out) == SCHEMA


def test_a_field_that_json_cannot_hold_is_an_error() -> None:
    with pytest.raises(TypeError, match="of a type that JSON has, but one is <class 'complex'>"):
        of_type(complex)
