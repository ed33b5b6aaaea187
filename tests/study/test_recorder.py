"""What of a trial's restarts counts against `retries`."""

from pathlib import Path
from typing import Any, cast

import pytest
from ray import cloudpickle
from ray.exceptions import ActorDiedError

from study.recorder import Recorder


class Broken:
    """A trial of Tune whose process has died, as far as the recorder looks at it."""

    trial_id = "1"

    def __init__(self, folder: Path, text: str) -> None:
        error = ActorDiedError()
        error.error_msg = text
        self.pickled_error_file = str(folder / "error.pkl")
        Path(self.pickled_error_file).write_bytes(cloudpickle.dumps(error))


@pytest.mark.parametrize(
    ("text", "lost"),
    [
        ("The actor died because its node has died. Node Id: 12", True),
        ("The actor died unexpectedly: its process was killed.", False),
    ],
)
def test_the_loss_of_a_node_does_not_count(tmp_path: Path, text: str, lost: bool) -> None:
    forgiven: list[str] = []
    unused: Any = None
    found = Recorder(
        planned=unused,
        record=unused,
        checkpoints=unused,
        seen=(),
        goes_on=lambda ray_id: True,
        forgive=forgiven.append,
        restarts=unused,
        stopped=bool,
        broken=unused,
    )
    found.on_trial_error(1, [], cast(Any, Broken(tmp_path, text)))
    assert forgiven == (["1"] if lost else [])
