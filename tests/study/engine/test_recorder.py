"""Whose failure it is: a trial's own, or that of the node it was on."""

import traceback
from typing import Any

import pytest
from ray.exceptions import ActorDiedError, RayTaskError

from study.engine.node_check import NodeCheckError
from study.engine.recorder import has_died, in_one_line, is_nodes


def died(text: str, preempted: bool = False) -> ActorDiedError:
    """The end of a trial's process, as Ray tells it."""
    error: Any = ActorDiedError()
    error.error_msg, error._preempted = text, preempted
    return error


def raised(error: Exception) -> ActorDiedError:
    """What a trial raised while it was set up, as Ray tells it."""
    try:
        raise error
    except type(error):
        cause = RayTaskError("Trainable.__init__", traceback.format_exc(), error)
    return ActorDiedError(cause)


@pytest.mark.parametrize(
    ("error", "nodes"),
    [
        (died("The actor died because its node has died. Node Id: 12"), True),
        (died("The actor died unexpectedly.", preempted=True), True),
        (raised(NodeCheckError("node a: disk: full")), True),
        (died("The actor died unexpectedly: its process was killed."), False),
        (raised(RuntimeError("NodeCheckError: of another kind")), False),
        (RuntimeError("its node has died"), False),
        (None, False),
    ],
)
def test_whose_failure(error: BaseException | None, nodes: bool) -> None:
    assert is_nodes(error) == nodes


def test_an_error_of_setup_is_told_and_is_no_death() -> None:
    error = raised(NodeCheckError("node a: disk: full"))
    assert in_one_line(error) == "study.engine.node_check.NodeCheckError: node a: disk: full"
    assert not has_died(error) and has_died(died("The actor died unexpectedly."))
