"""The JSON Schema of a study file: what it accepts, what it refuses, and what it says."""

import json
from typing import Any

import jsonschema
import pytest

from study import run
from study.planning import study_file
from study.planning.schema import study_schema
from study.planning.sections import RESERVED
from tests.test_readme import PROJECT, blocks
from trainables.config import catalog, known_keys

SCHEMA = study_schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
GOOD: dict[str, Any] = {
    "name": "small",
    "question": "Does it run?",
    "grid": {"method.name": ["inflora", "sd_lora"], "data.tasks": [2, 4]},
}


def messages(**changes: Any) -> list[str]:
    return [error.message for error in VALIDATOR.iter_errors({**GOOD, **changes})]


@pytest.mark.slow
def test_it_is_a_schema_and_is_printed_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert run.main(["--schema"]) == 0
    out, err = capsys.readouterr()
    assert (json.loads(out), err) == (SCHEMA, "")
    assert SCHEMA["required"] == list(GOOD)


def test_the_study_in_the_readme_fits() -> None:
    assert not messages(**study_file.parse(blocks(PROJECT / "README.md", "yaml")[0]))


@pytest.mark.parametrize(
    "changes",
    [
        {"search": {"inflora": ["optim.lr"], "sd_lora": {"method.tau": None}}},
        {"search": {"inflora": {"method.rank": {"low": 2, "high": 8, "log": True}}}},
        {"search": {"sd_lora": {"method.normaliser": {"choices": ["frobenius", "factor_norms"]}}}},
        {"search": {"inflora": {"method.align_lr": {"when": {"method.align": True}}}}},
        {"search": {"space": "all", "protocol": "first_k_tasks", "first_tasks": 2}},
        {"search": {"protocol": "transfer", "confirm_on": [{"data.name": "cub200"}]}},
        {"seeds": "published"},
        {"seeds": {"first": 3, "at_most": 8, "until": "decided"}, "margin": 0.5},
        {
            "contrasts": [
                "inflora vs sd_lora",
                {"first": 2, "second": [4], "metric": "test/accuracy"},
            ]
        },
        {"contrasts": "none"},
        {"objective": ["val/accuracy", "memory/branch_bytes"]},
        {"resources": {"cpu": 2, "gpu": "auto"}},
        {"fixed": {"data.name": "folder:birds", "preset": "paper", "optim.head_lr": None}},
        {"fixed": {"recipe": "inflora/imagenet_r", "backbone.blocks": [0, 3]}},
        {"budget": {"gpu_hours": 3}, "storage": "/data", "max_concurrent": None},
    ],
)
def test_what_a_study_may_say_is_accepted(changes: dict[str, Any]) -> None:
    assert not messages(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trails": 3}, "Additional properties are not allowed ('trails' was unexpected)"),
        ({"trials": 0}, "0 is less than the minimum of 1"),
        ({"grid": {}}, "{} should be non-empty"),
        ({"grid": {"data.tasks": 4}}, "4 is not of type 'array'"),
        ({"grid": {"data.task": [4]}}, "'data.task' was unexpected"),
        ({"grid": {"method.name": ["inflorra"]}}, "'inflorra' is not one of ['averaged_lora'"),
        ({"fixed": {"optim.epochs": 2.5}}, "2.5 is not of type 'integer'"),
        ({"fixed": {"method.energy": "sigma3"}}, "'sigma3' is not one of ['sigma4', 'sigma2']"),
        ({"fixed": {"preset": "papers"}}, "'papers' is not one of"),
        ({"pruner": {"rung": 3}}, "'rung' was unexpected"),
        ({"seeds": {"first": 2, "until": "decided"}}, "is not valid under any"),
        ({"contrasts": ["inflora or sd_lora"]}, "is not valid under any"),
        (
            {"contrasts": [{"first": 2, "second": 4, "metric": "test/acc"}]},
            "is not valid under any",
        ),
        ({"storage": "results"}, "'results' is not valid under any"),
        ({"objective": "test/accuracy"}, "'test/accuracy' is not valid under any"),
        ({"search": {"inflora": {"method.tau": None}}}, "is not valid under any"),
        ({"search": {"inflora": {"method.rank": {"low": 2}}}}, "is not valid under any"),
        ({"search": {"inflora": {"data.tasks": {"choices": [1]}}}}, "is not valid under any"),
        ({"search": {"protocol": "online"}}, "is not valid under any"),
    ],
)
def test_usual_mistakes_are_refused(changes: dict[str, Any], message: str) -> None:
    assert any(message in line for line in messages(**changes)), messages(**changes)


def test_every_key_has_words_and_those_of_a_method_are_its_own() -> None:
    assert all(words["description"] for words in SCHEMA["properties"].values())
    keys = {key for method in catalog.methods() for key in known_keys(method)}
    for key in keys - set(RESERVED):
        assert len(SCHEMA["$defs"][key]["description"]) > 10, key
    assert "through the network at once" in SCHEMA["$defs"]["optim.micro_batch"]["description"]
    for section in ("Search", "Pruner", "Budget", "Resources", "Declared", "UntilDecided"):
        fields = SCHEMA["$defs"][section]["properties"].values()
        assert all(len(field["description"]) > 10 for field in fields)
