"""What cells and their values are called where people read them."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

METHOD, TASKS = "method.name", "data.tasks"
# Of a search, which no trial has as a setting.
OF_SEARCH, PROTOCOL, TUNED_ON = "search.", "search.protocol", "search.tuned_on"


def varying_keys(cells: Sequence[Mapping[str, Any]]) -> set[str]:
    """Keys whose value is not the same in all cells, of which the keys are given."""
    keys = dict.fromkeys(key for cell in cells for key in cell)
    return {key for key in keys if len({str(cell.get(key)) for cell in cells}) > 1}


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
