"""What cells and their values are called where people read them."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

METHOD, TASKS, DATA = "method.name", "data.tasks", "data.name"
# Of a search, which no trial has as a setting.
OF_SEARCH, PROTOCOL, TUNED_ON = "search.", "search.protocol", "search.tuned_on"
# Names of keys that people write as a letter.
GREEK = {"epsilon": "ε", "alpha": "α"}
# Below, a number is written with its exponent.
SMALL = 1e-3
SETTINGS = (("method.", "optim.", "preset", "recipe"), ("backbone.",))


def varying_keys(cells: Sequence[Mapping[str, Any]]) -> set[str]:
    """Keys whose value is not the same in all cells, of which the keys are given."""
    keys = dict.fromkeys(key for cell in cells for key in cell)
    return {key for key in keys if len({str(cell.get(key)) for cell in cells}) > 1}


def shown_keys(
    cells: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]],
) -> list[dict[str, Any]]:
    """What labels of cells are made from, given each cell's key and what is fixed in it.

    Every cell has all keys that any of them has. Where data sets vary, what goes with a data set
    (its number of classes, say) is left out, and what settings were tuned on is called by its data
    set alone; unless cells could not be told apart then.
    """
    every = dict.fromkeys(key for own, _ in cells for key in own)
    full = [
        {key: {**fixed, **own}[key] for key in every if key in own or key in fixed}
        for own, fixed in cells
    ]
    if len({str(cell.get(DATA)) for cell in full}) < 2:
        return full
    sets = {str(cell.get(DATA)) for cell in full}
    implied = {
        key
        for key in every
        if key.startswith("data.")
        and key not in (DATA, TASKS)
        and len({(str(cell.get(DATA)), str(cell.get(key))) for cell in full}) == len(sets)
    }
    short = [
        {key: _tuned_on(key, value) for key, value in cell.items() if key not in implied}
        for cell in full
    ]
    return (
        short if len({str(cell) for cell in short}) == len({str(cell) for cell in full}) else full
    )


def _tuned_on(key: str, value: Any) -> Any:
    """The data set alone of what settings were tuned on; other values stay."""
    if key != TUNED_ON:
        return value
    pairs = (pair.partition("=") for pair in str(value).split(","))
    return next((name for found, _, name in pairs if found == DATA), value)


def contender_keys(cells: Sequence[Mapping[str, Any]]) -> frozenset[str]:
    """Keys by which the cells of a group are compared with each other.

    That is the method, where methods vary; else what varies of the method's and the optimiser's
    settings; else of the backbone's. Data, tasks and protocols are what is compared under.
    """
    varying = varying_keys(cells)
    if METHOD in varying:
        return frozenset((METHOD,))
    for prefixes in SETTINGS:
        found = frozenset(key for key in varying if key.startswith(prefixes))
        if found:
            return found
    return frozenset()


def cell_label(key: Mapping[str, Any], varying: Iterable[str]) -> str:
    """A cell's key for people: the method, the number of tasks, and every other key that varies."""
    kept = set(varying) - {METHOD, TASKS}
    tails = Counter(name.rpartition(".")[2] for name in key)
    parts = [str(key[METHOD])] if METHOD in key else []
    if TASKS in key:
        parts.append(f"{key[TASKS]} task" + ("" if key[TASKS] == 1 else "s"))
    for name, value in key.items():
        if name not in kept:
            continue
        tail = name.rpartition(".")[2]
        if tail == "name":
            parts.append(value_text(value))
        else:
            word = tail.replace("_", " ") if tails[tail] == 1 else name
            parts.append(f"{word} {value_text(value)}")
    return ", ".join(parts) or "all"


def value_text(value: Any) -> str:
    """A setting's value: floats in three digits."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def setting_words(setting: Mapping[str, Any]) -> str:
    """A setting in short: the last word of each key, numbers to three digits.

    As in "rank 16, ε 0.976, lr 3.3e-4".
    """
    tails = Counter(key.rpartition(".")[2] for key in setting)
    words = []
    for key, value in setting.items():
        tail = key.rpartition(".")[2]
        named = tail if tails[tail] == 1 else key
        for name, letter in GREEK.items():
            named = named.replace(name, letter)
        words.append(f"{named.replace('_', ' ')} {_short(value)}")
    return ", ".join(words) or "–"


def _short(value: Any) -> str:
    """A value as in `value_text`; small numbers by their exponent."""
    if not isinstance(value, float) or value == 0 or abs(value) >= SMALL:
        return value_text(value)
    digits, _, exponent = f"{value:.2e}".partition("e")
    return f"{float(digits):g}e{int(exponent)}"


WHOLE_STREAM = "whole_stream"


def protocol(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    """The section `search` of a study file, empty where it holds the space alone."""
    search = spec.get("search")
    return search if isinstance(search, Mapping) and "protocol" in search else {}


def canonical(setting: Mapping[str, Any]) -> str:
    """A setting as text that is the same whatever the order of its keys."""
    return json.dumps(setting, sort_keys=True)


def range_text(searched: Mapping[str, Any]) -> str:
    """What is searched of a key in words, of a cell's record: "2 to 16 (log) when … is …"."""
    conditions = searched.get("when", {})
    when = "".join(
        f"{' and' if at else ' when'} {key} is {' or '.join(str(value) for value in values)}"
        for at, (key, values) in enumerate(conditions.items())
    )
    return _distribution_text(**searched["distribution"]) + when


def _distribution_text(name: str, attributes: Mapping[str, Any]) -> str:
    """A distribution in words, of Optuna's JSON."""
    if "choices" in attributes:
        return "one of " + ", ".join(str(choice) for choice in attributes["choices"])
    log = " (log)" if attributes["log"] else ""
    default = 1 if name == "IntDistribution" else None
    step = attributes["step"]
    steps = f" in steps of {step:g}" if step != default else ""
    return f"{attributes['low']:g} to {attributes['high']:g}{log}{steps}"
