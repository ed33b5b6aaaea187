"""StudyFolder: every path in the folder of a study, its locks, and how it is found by name."""

import contextlib
import errno
import os
import platform
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from filelock import FileLock, Timeout

from study.errors import MistakeError
from study.ledger.ledger import LEDGER

RESULTS = "results"
STORAGE_VARIABLE = "LRCS_STORAGE"
# What file systems say that have no locks; a study there is its owner's to run once.
WITHOUT_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK)
# What `trainables.export` writes of a model.
MODEL_FILES = ("model.safetensors", "model.json", "load.py")


class _Inside:
    """A path in the folder of a study."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, folder: "StudyFolder", kind: type) -> Path:
        return folder.path / self._name


@dataclass(frozen=True)
class StudyFolder:
    """The folder of a study, at `path`."""

    path: Path

    ledger = _Inside(LEDGER)
    report = _Inside("report")
    # A folder of Ray's files for each session of the study, and what Ray's processes say.
    sessions = _Inside("ray")
    ray_log = _Inside("ray.log")
    # Of one configuration (--once).
    checkpoint = _Inside("checkpoint")
    # Merged weights.
    models = _Inside("models")
    # MLflow's, where no other store is named, and what the process says that writes to it.
    database = _Inside("mlflow.db")
    artifacts = _Inside("mlflow-artifacts")
    tracking_log = _Inside("mlflow.log")

    def model_files(self, folder: str) -> list[Path]:
        """The files of a model, whose folder a record names relative to this one.

        Raises:
            ValueError: if `folder` leads out of the models, as in the ledger of somebody else:
                nothing but models is sent to a server.
        """
        models, place = self.models.resolve(), (self.path / folder).resolve()
        if Path(folder).is_absolute() or not place.is_relative_to(models) or place == models:
            raise ValueError(
                f"a model's folder must lie below {self.models.name}/, but is {folder!r}."
            )
        paths = (place / name for name in MODEL_FILES)
        return [path for path in paths if path.is_file() and not path.is_symlink()]

    def command(self, option: str) -> str:
        """The command line with an option of study/run.py that takes a study's folder."""
        script = sys.argv[0] if Path(sys.argv[0]).name == "run.py" else "study/run.py"
        return f"python {shlex.quote(script)} {option} {shlex.quote(str(self.path))}"

    def is_held(self) -> bool | None:
        """Whether a process runs the study; None where that cannot be told.

        The lock is tried and let go of at once; a folder without its file was never run here.
        """
        path = self.path / "lock"
        if not path.exists():
            return None
        lock = FileLock(path, blocking=False, fallback_to_soft=False)
        try:
            lock.acquire()
        except Timeout:
            return True
        except (OSError, NotImplementedError):
            return None
        lock.release()
        return False

    @contextlib.contextmanager
    def held(self, name: str = "lock") -> Iterator[None]:
        """Holds the folder, or what `name` says of it.

        The system lets go of the lock when the process ends, however it ends: a file `name` that
        is left over holds nobody up.

        Raises:
            MistakeError: if another process holds it, naming its host and process; or if the
                folder cannot be written to.
        """
        path = self.path / name
        lock = FileLock(path, blocking=False, fallback_to_soft=False, on_acquired=_sign)
        try:
            lock.acquire()
        except Timeout as error:
            raise MistakeError(
                f"a study must be run by one process at a time, but {self.path} is by "
                f"{path.read_text(encoding='utf-8').strip() or 'another one'}."
            ) from error
        except (OSError, NotImplementedError) as error:
            number = getattr(error, "errno", errno.ENOSYS)
            if number not in WITHOUT_LOCKS:
                reason = os.strerror(number) if number else str(error)
                raise MistakeError(f"{path} cannot be written: {reason}.") from error
        try:
            yield
        finally:
            lock.release()

    @classmethod
    def find(cls, wanted: str, roots: Sequence[Path], option: str) -> Self:
        """The folder of a study: a folder, its ledger, or the start of a name below a root.

        Of several folders whose names begin like this, it is the one that was written to last.

        Raises:
            ValueError: if there is none, naming the option of study/run.py.
        """
        path = Path(wanted)
        if path.name == LEDGER and path.is_file():
            return cls(path.parent)
        if (path / LEDGER).is_file():
            return cls(path)
        ledgers = [
            ledger
            for root in roots
            if wanted and path.name == wanted
            for ledger in root.glob(f"*/{LEDGER}")
            if ledger.parent.name.startswith(wanted)
        ]
        if not ledgers:
            places = " or ".join(str(root.resolve()) for root in roots)
            raise ValueError(
                f"{option} must name the folder of a study, its {LEDGER} or the start of the name "
                f"of a folder in {places}, but got {wanted!r}."
            )
        return cls(max(ledgers, key=lambda ledger: ledger.stat().st_mtime).parent)


def file_sizes(place: Path) -> dict[str, int]:
    """Bytes of all files below a folder, by their paths in it."""
    return {
        path.relative_to(place).as_posix(): path.stat().st_size
        for path in sorted(place.rglob("*"))
        if path.is_file()
    }


def shared_folder() -> tuple[Path, ...]:
    """The folder of studies that LRCS_STORAGE gives, which all nodes of a cluster share, if set.

    Raises:
        ValueError: if it is no absolute path.
    """
    named = os.environ.get(STORAGE_VARIABLE)
    if not named:
        return ()
    if not Path(named).is_absolute():
        raise ValueError(f"${STORAGE_VARIABLE} must be an absolute path, but got {named!r}.")
    return (Path(named) / "studies",)


def _sign(descriptor: int) -> None:
    """Writes into a lock who holds it."""
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"process {os.getpid()} on host {platform.node()}\n".encode(), 0)
