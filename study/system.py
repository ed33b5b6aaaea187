"""Lines at the terminal, processes of this project's own, and the doors of its rooms."""

import importlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def say(text: str, error: bool = False) -> None:
    """Prints lines as they are: nothing is wrapped, coloured or taken for markup."""
    print(text, file=sys.stderr if error else sys.stdout)


def own_command(module: str, arguments: Sequence[str]) -> list[str]:
    """The command that runs a module of this project; see `own_environment`."""
    # Without the working directory on its path, whose files would be found first.
    return [sys.executable, "-P", "-m", module, *arguments]


def own_environment() -> dict[str, str]:
    """The environment in which such a process finds the same modules as this one."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def door(package: str, homes: Mapping[str, Sequence[str]]) -> Callable[[str], Any]:
    """The `__getattr__` of a package: each name is loaded when it is first asked for.

    Args:
        package: its name.
        homes: modules of the package, each with the names that are taken from it.
    """
    modules = {name: module for module, names in homes.items() for name in names}

    def load(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{package}.{modules[name]}"), name)

    return load
