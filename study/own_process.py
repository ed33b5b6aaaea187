"""Programs of this project in processes of their own."""

import os
import sys
from collections.abc import Sequence


def own_command(module: str, arguments: Sequence[str]) -> list[str]:
    """The command that runs a module of this project; see `own_environment`."""
    # Without the working directory on its path, whose files would be found first.
    return [sys.executable, "-P", "-m", module, *arguments]


def own_environment() -> dict[str, str]:
    """The environment in which such a process finds the same modules as this one."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(one for one in sys.path if one)}
