"""What a person can ask for at the command line."""

from typing import TYPE_CHECKING

from study.system import door

if TYPE_CHECKING:
    from study.commands.main import run_command
else:
    __getattr__ = door(__name__, {"main": ("run_command",)})

__all__ = ["run_command"]
