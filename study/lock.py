"""One process a study: a lock on its folder that ends with the process that holds it."""

import contextlib
import errno
import fcntl
import os
import platform
from collections.abc import Iterator
from pathlib import Path

from study.rules import MistakeError

NAME = "lock"
# What file systems say that have no locks; a study there is its owner's to run once.
WITHOUT_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK)


def held(output: Path, name: str = NAME) -> bool | None:
    """Whether a process runs the study of this folder; None where that cannot be told.

    The lock is tried and let go of at once; a folder without the file was never run here.
    """
    try:
        with (output / name).open(encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return None
    return False


@contextlib.contextmanager
def only_one(output: Path, name: str = NAME) -> Iterator[None]:
    """Holds the folder of a study.

    The system lets go of the lock when the process ends, however it ends: a file `name` that is
    left over holds nobody up.

    Raises:
        MistakeError: if another process runs the study, naming its host and process; or if the
            folder cannot be written to.
    """
    path = output / name
    try:
        file = path.open("a+", encoding="utf-8")
    except OSError as error:
        raise MistakeError(f"{path} cannot be written: {error.strerror}.") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise MistakeError(
                f"a study must be run by one process at a time, but {output} is by "
                f"{file.read().strip() or 'another one'}."
            ) from error
        except OSError as error:
            if error.errno not in WITHOUT_LOCKS:
                raise
        file.truncate(0)
        file.write(f"process {os.getpid()} on host {platform.node()}\n")
        file.flush()
        yield
