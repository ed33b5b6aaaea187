"""Runs a study: `python study/run.py [FILE]`, or `python -m study.run [FILE]`.

This file also works on its own, copied to another machine, if the project is installed there.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

# As a script, Python would look for every module beside this file first.
if not __package__ and sys.path and Path(sys.path[0]).resolve() == Path(__file__).resolve().parent:
    sys.path.pop(0)

# `ray submit` copies this file alone, and joins its arguments without quotes into a line for a
# shell, which splits them.
ALONE = not Path(__file__).with_name("commands").is_dir()


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit code.

    0: done, 1: a cell has no result or there is no report, 2: a mistake in the study file or the
    command, 128 + signal: interrupted.
    """
    try:
        from study.commands import run_command

        return run_command(list(sys.argv[1:] if arguments is None else arguments), ALONE)
    except ModuleNotFoundError as error:
        print(f"error: {error}: install the project with its extra 'study'.", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
