"""Trials that run on a node only after the node has been checked."""

import fcntl
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from ray import get_runtime_context, tune

from study.node_check import Expected, NodeReport, check

# A node that joins may still be mounting its storage or copying its data. A trial waits there
# for so long; one that fails at once would let a broken node take every trial of the study.
PATIENCE_SECONDS = 300.0
PAUSE_SECONDS = 20.0


class NodeCheckError(RuntimeError):
    """A node that trials were placed on is not what the study needs."""


def checked(trainable: type[tune.Trainable], expected: Expected) -> type[tune.Trainable]:
    """The trainable whose first trial on a node checks the node.

    A trial on a node that does not become ready within PATIENCE_SECONDS fails with the text of
    the check, and is started again, where there is room, as any other that fails.
    """

    class Checked(trainable):
        def setup(self, config: dict[str, Any]) -> None:
            """Checks the node first; else as the trainable's."""
            wait_until_ready(expected)
            super().setup(config)

    # Tune and its messages show the name.
    Checked.__name__ = trainable.__name__
    return Checked


def wait_until_ready(expected: Expected) -> None:
    """Checks this node, unless that was done; waits for a node that is not ready.

    Raises:
        NodeCheckError: if it has not become ready in time; says what is wrong and what mends it.
    """
    end = time.monotonic() + PATIENCE_SECONDS
    while True:
        report = check_and_remember(expected, get_runtime_context().get_node_id())
        if not report.problems:
            return
        if time.monotonic() + PAUSE_SECONDS > end:
            raise NodeCheckError(str(report))
        time.sleep(PAUSE_SECONDS)


def check_and_remember(expected: Expected, node: str) -> NodeReport:
    """As `check`, once for a node and a session of a study: others wait for the first.

    That a node is ready is remembered; one that is not is checked again.
    """
    folder = Path(tempfile.gettempdir()) / f"lrcs-nodes-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    with (folder / f"{expected.token}-{node}").open("a+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        if file.read():
            return NodeReport("", ())
        report = check(expected, node)
        if not report.problems:
            file.write("ready")
        return report
