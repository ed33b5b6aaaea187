"""What a study's ledger has to say whatever happened to its processes and its machines."""

import math
from collections import Counter
from typing import Any

from study.ledger import Record


def check_each_once(
    records: list[Record], study: dict[str, Any], confirmations: int | None = None
) -> None:
    """Exactly the planned trials, each launched, ended and each of its tasks recorded once.

    `confirmations` is how many there are where the looks at contrasts decide.
    """
    launched = [record for record in records if record["kind"] == "trial"]
    cells = math.prod(len(values) for values in study["grid"].values())
    roles = Counter(trial["role"] for trial in launched)
    confirmed = cells * len(study["seeds"]) if confirmations is None else confirmations
    assert roles == {"search": cells * study["trials"], "confirm": confirmed}
    names = [trial["trial"] for trial in launched]
    assert len(set(names)) == len(names)
    ended = [record for record in records if record["kind"] == "end"]
    ends = [end for end in ended if end["status"] != "interrupted"]
    assert sorted(end["trial"] for end in ends) == sorted(names)
    assert {end["status"] for end in ends} <= {"completed", "pruned"}
    results = [record for record in records if record["kind"] == "task"]
    tasks = Counter((record["trial"], record["task"]) for record in results)
    assert set(tasks.values()) == {1}
    status = {end["trial"]: end["status"] for end in ends}
    for trial in launched:
        seen = [task for name, task in tasks if name == trial["trial"]]
        assert seen == list(range(1, len(seen) + 1))
        assert (len(seen) == trial["tasks"]) == (status[trial["trial"]] == "completed")
    (*_, last) = (record for record in records if record["kind"] == "finished")
    assert last["status"] == "completed"


def decisions(records: list[Record]) -> dict[str, list[Record]]:
    """The looks at each contrast, in their order, without the time."""
    found: dict[str, list[Record]] = {}
    for record in records:
        if record["kind"] == "look":
            plain = {key: value for key, value in record.items() if key != "time"}
            found.setdefault(record["contrast"], []).append(plain)
    return found


def measured(records: list[Record]) -> dict[tuple[str, int], Record]:
    """All that does not depend on the machine's mood, by trial and task."""
    return {
        (record["trial"], record["task"]): {
            key: value
            for key, value in {"row": record["accuracy_row"], **record["metrics"]}.items()
            if not key.startswith(("time/", "memory/"))
        }
        for record in records
        if record["kind"] == "task"
    }
