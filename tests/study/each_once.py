"""What a study's ledger has to say whatever happened to its processes and its machines."""

from collections import Counter
from typing import Any

from study.ledger import Record


def check_each_once(records: list[Record], study: dict[str, Any]) -> None:
    """Exactly the planned trials, each launched, ended and each of its tasks recorded once."""
    launched = [one for one in records if one["kind"] == "trial"]
    cells = len(study["grid"]["method.name"]) * len(study["grid"]["data.tasks"])
    roles = Counter(one["role"] for one in launched)
    assert roles == {"search": cells * study["trials"], "confirm": cells * len(study["seeds"])}
    names = [one["trial"] for one in launched]
    assert len(set(names)) == len(names)
    ends = [one for one in records if one["kind"] == "end" and one["status"] != "interrupted"]
    assert sorted(one["trial"] for one in ends) == sorted(names)
    assert {one["status"] for one in ends} <= {"completed", "pruned"}
    tasks = Counter((one["trial"], one["task"]) for one in records if one["kind"] == "task")
    assert set(tasks.values()) == {1}
    status = {one["trial"]: one["status"] for one in ends}
    for one in launched:
        seen = [task for trial, task in tasks if trial == one["trial"]]
        assert seen == list(range(1, len(seen) + 1))
        assert (len(seen) == one["tasks"]) == (status[one["trial"]] == "completed")
    assert [one["status"] for one in records if one["kind"] == "finished"][-1] == "completed"
