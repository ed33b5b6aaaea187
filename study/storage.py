"""Storage that takes nothing more: told from other errors, and said so that a person can act."""

import errno
import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

# Of a disk that is full or gone; whatever else is tried would fail for the same reason.
CODES = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EROFS,
    errno.EIO,
    errno.ESTALE,
    errno.ENOTCONN,
    errno.EHOSTDOWN,
)
TEXTS = tuple(os.strerror(code) for code in CODES)
# What torch.save says, without the reason, where a file cannot be written to its end.
TORCH_TEXT = "PytorchStreamWriter failed"


class StorageError(Exception):
    """A study cannot go on since its storage takes nothing more; the message says what to do."""


def storage_error(output: Path, cause: BaseException | str) -> StorageError:
    """The error to stop the study of the folder `output` with."""
    places = {output.resolve(): "its folder", Path(tempfile.gettempdir()): "temporary files"}
    free = ", ".join(f"{_free(path)} in {path} ({what})" for path, what in places.items())
    return StorageError(
        f"the study cannot be written: {_reason(cause)}. Free here: {free}. "
        f"Make room, or bring the storage back, and go on with: {resume_command(output)}"
    )


def is_full(error: BaseException) -> bool:
    """Whether an error, or what caused it, tells of storage that takes nothing more."""
    return any(_tells(one) for one in _chain(error))


def resume_command(output: Path) -> str:
    """The command that goes on with the study of a folder."""
    return command("--resume", output)


def command(option: str, output: Path) -> str:
    """The command line with an option of study/run.py that takes a study's folder."""
    script = sys.argv[0] if Path(sys.argv[0]).name == "run.py" else "study/run.py"
    return f"python {shlex.quote(script)} {option} {shlex.quote(str(output))}"


def _tells(error: BaseException) -> bool:
    if isinstance(error, OSError) and error.errno in CODES:
        return True
    # Errors of other processes and libraries bring the text alone.
    text = str(error)
    return any(one in text for one in TEXTS) or TORCH_TEXT in text


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and what it came from, Ray's way (`cause`) and Python's."""
    seen: list[BaseException | None] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is not None and one not in seen:
            seen.append(one)
            yield one
            waiting += [getattr(one, "cause", None), one.__cause__, one.__context__]


def _reason(cause: BaseException | str) -> str:
    """The line of an error, which may be a whole traceback, that tells of storage."""
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()] or ["?"]
    telling = [line for line in lines if TORCH_TEXT in line or any(one in line for one in TEXTS)]
    return (telling or lines)[-1].rstrip(".")


def _free(path: Path) -> str:
    try:
        usage = shutil.disk_usage(path)
    except OSError as error:
        return f"unknown ({error.strerror})"
    return f"{usage.free / 1e9:.2f} of {usage.total / 1e9:.2f} GB"
