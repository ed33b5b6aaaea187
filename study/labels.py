"""What cells and their values are called where people read them."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

METHOD, TASKS, DATA = "method.name", "data.tasks", "data.name"
# Of a search, which no trial has as a setting.
OF_SEARCH, PROTOCOL, TUNED_ON = "search.", "search.protocol", "search.tuned_on"
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
    every = dict.fromkeys(key for one, _ in cells for key in one)
    full = [
        {key: {**fixed, **one}[key] for key in every if key in one or key in fixed}
        for one, fixed in cells
    ]
    if len({str(one.get(DATA)) for one in full}) < 2:
        return full
    values: dict[str, dict[str, set[str]]] = {}
    for one in full:
        for key in every:
            found = values.setdefault(key, {}).setdefault(str(one.get(DATA)), set())
            found.add(str(one.get(key)))
    implied = {
        key
        for key, by_data in values.items()
        if key.startswith("data.")
        and key not in (DATA, TASKS)
        and all(len(one) == 1 for one in by_data.values())
    }
    short = [
        {key: _tuned_on(key, value) for key, value in one.items() if key not in implied}
        for one in full
    ]
    return short if len({str(one) for one in short}) == len({str(one) for one in full}) else full


def _tuned_on(key: str, value: Any) -> Any:
    """The data set alone of what settings were tuned on; other values stay."""
    if key != TUNED_ON:
        return value
    pairs = (one.partition("=") for one in str(value).split(","))
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
    kept = set(varying) | {METHOD, TASKS}
    tails = Counter(one.rpartition(".")[2] for one in key)
    parts = [str(key[METHOD])] if METHOD in key else []
    if TASKS in key:
        parts.append(f"{key[TASKS]} task" + ("" if key[TASKS] == 1 else "s"))
    for one, value in key.items():
        if one not in kept or one in (METHOD, TASKS):
            continue
        tail = one.rpartition(".")[2]
        if one == TUNED_ON:
            parts.append(f"tuned on {value}")
        elif one == PROTOCOL:
            parts.append(f"protocol {value}")
        elif tail == "name":
            parts.append(value_text(value))
        else:
            word = tail.replace("_", " ") if tails[tail] == 1 else one
            parts.append(f"{word} {value_text(value)}")
    return ", ".join(parts) or "all"


def value_text(value: Any) -> str:
    """A setting's value: floats in three digits."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)
