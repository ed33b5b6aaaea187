"""What is wrong with a study file or a trial, as a person reads it: key, rule, then value."""

import ast
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any, TypeAlias, get_args

from annotated_types import GroupedMetadata
from pydantic import (
    BaseModel,
    Field,
    PlainSerializer,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from study import errors
from study.ledger import METHOD
from trainables.config import TrialConfig, known_keys

# What fills other keys in.
RECIPES = frozenset(("preset", "recipe"))
# How pydantic tells two forms of a section apart; no part of a place.
PLAIN, MAPPED = "<plain>", "<mapping>"
# Where a sentence begins to list names.
LISTED_NAMES = re.compile(r"[;.?] known are |(?<=[.?]) (?:Known are|The nearest are) ")
Place: TypeAlias = tuple[int | str, ...]
# What a value must, by the type of pydantic's error; an error of our own has it as its text.
RULES: Mapping[str, str] = {
    "dict_type": "map keys to values",
    "model_type": "map keys to values",
    "string_type": "be a text",
    "tuple_type": "be a list",
}


class Must(GroupedMetadata):
    """States in `rule` what a value must be, whatever is wrong with it; 1 is not made 1.0.

    `limits` are those of pydantic's `Field`; without them the type alone decides.
    """

    def __init__(self, rule: str, **limits: Any) -> None:
        self._rule, self._limits = rule, limits

    def __iter__(self) -> Iterator[object]:
        if self._limits:
            yield Field(**{"strict": True, **self._limits})
        yield WrapValidator(self._check)
        yield PlainSerializer(lambda value: value, return_type=Any)

    def _check(self, value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
        try:
            validate(value)
        except ValidationError as error:
            raise PydanticCustomError("rule", "be {rule}", {"rule": self._rule}) from error
        return value


def broken_rules(model: type[BaseModel], error: ValidationError) -> dict[Place, list[str]]:
    """What is wrong at each place of a study file.

    A validator's own ValueError is a whole sentence, or several (`InvalidStudyError`).
    """
    sentences: dict[Place, list[str]] = {}
    for detail in error.errors(include_url=False):
        cause = detail.get("ctx", {}).get("error")
        place = tuple(part for part in detail["loc"] if part not in (PLAIN, MAPPED))
        own = getattr(cause, "mistakes", [cause])
        if cause is None:
            own = [_sentence(model, place, detail)]
        sentences.setdefault(place, []).extend(map(str, own))
    return sentences


def _sentence(model: type[BaseModel], place: Place, detail: ErrorDetails) -> str:
    kind, value = detail["type"], detail["input"]
    if kind == "missing":
        of = f" of {_name(place[:-1], '.', single=True)}" if len(place) > 1 else ""
        return f"the key {place[-1]!r}{of} must be present."
    section = _section(model, place)
    if kind in ("extra_forbidden", "invalid_key"):
        what = "key" if section is model else f"{place[0]} key"
        return errors.unknown(what, place[-1], section.model_fields)
    key = _name(place, " " if section is model else ".")
    if kind == "literal_error":
        # As in "'asha' or 'none'".
        names = ast.literal_eval(f"[{detail['ctx']['expected'].replace(' or ', ', ')}]")
        return errors.one_of(key, value, names)
    return f"{key} must {RULES.get(kind, detail['msg'])}, but got {value!r}."


def _section(model: type[BaseModel], place: Place) -> type[BaseModel]:
    """The model in which a place lies: that of a section, of one of several, or of the file."""
    kinds: list[Any] = [model.model_fields[str(place[0])].annotation] if len(place) > 1 else []
    for kind in kinds:
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
        kinds += get_args(kind)
    return model


def _name(place: Place, joint: str, single: bool = False) -> str:
    """A place as a person writes it: trials, pruner.kind, grid data.tasks; contrasts, entry 2.

    `single`: a place in a list is that of the one entry, and not of each.
    """
    if place[-1] == "[key]":
        return f"each key of {_name(place[:-2], joint)}"
    if isinstance(place[-1], int) and single:
        return f"{_name(place[:-1], joint)}, entry {place[-1] + 1}"
    if isinstance(place[-1], int):
        return f"each of {_name(place[:-1], joint)}"
    if any(isinstance(part, int) for part in place[:2]):
        return f"{_name(place[:2], joint, single=True)}: {_name(place[2:], joint)}"
    # The space stands in place of the section where it is given alone.
    return joint.join(str(part) for part in place if part != "space")


def wrong_settings(params: Mapping[str, Any], left_out: set[str], classes: set[int]) -> list[str]:
    """All that is wrong with the settings of a trial.

    What a sentence is about is left out and the rest is tried again, until nothing is wrong or
    what is wrong depends on what was left out.

    Args:
        params: flat keys, with a method that exists.
        left_out: keys of which nothing is to be said; those that are told of are added.
        classes: gets the number of classes in use.
    """
    mistakes = []
    method = str(params[METHOD])
    known = known_keys(method)
    for key in sorted(params.keys() - known.keys() - left_out):
        mistakes.append(errors.unknown("key", key, known, f" for method {method}"))
        left_out |= {key, *errors.close(key, known)}
    while True:
        rest = _independent(params, left_out)
        try:
            classes.add(TrialConfig.from_params(rest).data.classes_in_use)
        except ValueError as error:
            sentence = str(error)
        else:
            return mistakes
        if named(sentence, left_out):
            return mistakes
        mistakes.append(sentence)
        if not (about := named(sentence, rest)):
            return mistakes
        left_out.add(about[0])


def _independent(params: Mapping[str, Any], left_out: Collection[str]) -> dict[str, Any]:
    """The settings whose limits do not depend on those left out, as far as their names tell."""
    rest = {key: value for key, value in params.items() if key not in left_out}
    if not any(key.endswith(".name") or key in RECIPES for key in left_out):
        return rest
    # Data, network and method have limits for each other, and recipes have rates.
    alone = "optim." if not RECIPES & params.keys() else METHOD
    return {key: value for key, value in rest.items() if key == METHOD or key.startswith(alone)}


def named(sentence: str, keys: Collection[str]) -> list[str]:
    """The keys that a sentence names, in its order; not those that it lists as known."""
    text = LISTED_NAMES.split(sentence)[0]
    matches = {key: re.search(rf"(?<![\w.]){re.escape(key)}(?!\w)", text) for key in keys}
    places = {key: match.start() for key, match in matches.items() if match}
    return sorted(places, key=places.__getitem__)
