"""StudyFolder: every path in the folder of a study, its locks, and how it is found by name."""

import contextlib
import errno
import json
import os
import platform
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from filelock import FileLock, Timeout

from study.errors import MistakeError, hint
from study.ledger.ledger import LEDGER
from study.ledger.own_paths import is_link, is_model, own_path, refuse_links
from study.system import own_program

RESULTS = "results"
# A link beside the folders of studies, to the one that was begun last.
LATEST = "latest"
# What stands in a study's folder before and beside its first record.
LEFTOVERS = frozenset(
    (
        *("lock", LEDGER, "ray", "ray.log", "report", "mlflow-artifacts"),
        *("mlflow.db", "mlflow.db.lock", "mlflow.lock", "mlflow.log", "console.log"),
    )
)
# Bytes of a study's record.
LONGEST_LINE = 10**7
STORAGE_VARIABLE = "LRCS_STORAGE"
# What file systems say that have no locks; a study there is its owner's to run once.
WITHOUT_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK)
# What `trainables.export` writes of a model; the last of those with prompts alone.
MODEL_FILES = ("model.safetensors", "model.json", "load.py", "prompts.py")


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
    # What the terminal did not take.
    console_log = _Inside("console.log")

    def model_files(self, folder: str) -> list[Path]:
        """The files of a model, whose folder a record names relative to this one.

        Raises:
            ValueError: if `folder` leads out of the models, as in the ledger of somebody else:
                nothing but models is sent to a server.
        """
        if not is_model(folder):
            raise ValueError(
                f"a model's folder must lie below {self.models.name}/, but is {folder!r}."
            )
        place = own_path(self.path, folder, "the folder of a model")
        paths = (place / name for name in MODEL_FILES)
        return [path for path in paths if path.is_file() and not path.is_symlink()]

    def command(self, option: str) -> str:
        """The command line with an option of study/run.py that takes a study's folder."""
        return f"{own_program()} {option} {shlex.quote(str(self.path))}"

    def mark_latest(self, new: bool = True) -> None:
        """Lets the link `latest` beside the folder lead to it, in one step.

        Whatever else has that name stays, also a link that leads to another place than beside it.
        Where there is no link yet it is made for a `new` study only.
        """
        link = self._latest
        with contextlib.suppress(OSError):
            if link.is_symlink():
                if len(link.readlink().parts) > 1:
                    return
                other = link.with_name(f".{LATEST}-{os.getpid()}")
                other.unlink(missing_ok=True)
                other.symlink_to(self.path.name)
                other.replace(link)
            elif new:
                # Fails where something is there.
                link.symlink_to(self.path.name)

    @property
    def is_latest(self) -> bool:
        """Whether the link `latest` beside the folder leads to it."""
        return self._latest.is_symlink() and self._latest.resolve() == self.path.resolve()

    @property
    def short(self) -> Path:
        """The shortest path of the folder: by its link, from the working directory if below it."""
        place = (self._latest if self.is_latest else self.path).absolute()
        with contextlib.suppress(ValueError, OSError):
            return place.relative_to(Path.cwd())
        return place

    @property
    def _latest(self) -> Path:
        return self.path.absolute().parent / LATEST

    def is_held(self) -> bool | None:
        """Whether a process runs the study; None where that cannot be told.

        The lock is tried and let go of at once; a folder without its file was never run here.
        """
        path = self.path / "lock"
        # Through a link, the lock would empty what it leads to.
        if is_link(path) or not path.exists():
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
            MistakeError: if another process holds it, naming its host and process; if the folder
                cannot be written to; or if a study would write through a link in it.
        """
        path = self.path / name
        try:
            refuse_links(self.path, sorted(LEFTOVERS | {name}))
        except ValueError as error:
            raise MistakeError(str(error)) from error
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

    def is_unused(self) -> bool:
        """Whether nothing is in it but what a study has left that could not record anything.

        So may one on a full disk, whose `--output` can be given again.
        """
        if not {entry.name for entry in self.path.iterdir()} <= LEFTOVERS:
            return False
        return not self.ledger.exists() or b"\n" not in self.ledger.read_bytes()

    @contextlib.contextmanager
    def held_anew(self) -> Iterator[None]:
        """Holds the folder for a new study.

        Raises:
            MistakeError: as `held`; or if another process began one since the folder was empty.
        """
        with self.held():
            if not self.is_unused():
                raise MistakeError(
                    f"--output must be a new or an empty folder, but {self.path} is not."
                )
            yield

    @classmethod
    def find(cls, wanted: str, roots: Sequence[Path], option: str) -> Self:
        """The folder of a study: a folder, its ledger, or a name below a root.

        A name is that of a folder (where this was started, or below a root), or else of a study, or
        else how the names of folders begin; of these three the first that there is.

        Raises:
            ValueError: if there is none, or there are several, naming the option of study/run.py.
        """
        path = Path(wanted)
        if path.name == LEDGER and path.is_file():
            path = path.parent
            return cls(path.resolve() if path.is_symlink() else path)
        # The link to the latest study may lead to another one soon.
        path = path.resolve() if path.is_symlink() else path
        here = (path / LEDGER).is_file()
        if here and path.name != wanted:
            return cls(path)
        ledgers = [path / LEDGER] if here else []
        if wanted and path.name == wanted:
            ledgers += [ledger for root in roots for ledger in sorted(root.glob(f"*/{LEDGER}"))]
        for takes in (
            lambda ledger: ledger.parent.name == wanted,
            lambda ledger: study_name(ledger) == wanted,
            lambda ledger: ledger.parent.name.startswith(wanted),
        ):
            found = list(
                dict.fromkeys(ledger.parent.resolve() for ledger in filter(takes, ledgers))
            )
            if len(found) == 1:
                return cls(path if here else found[0])
            if found:
                newest = sorted(found, key=lambda place: -(place / LEDGER).stat().st_mtime)
                listed = "".join(f"\n  {place}" for place in newest)
                raise ValueError(
                    f"{option} must name one study, but {wanted!r} may be each of these, the last "
                    f"written first; give the folder:{listed}"
                )
        near = hint(wanted, [ledger.parent.name for ledger in ledgers])
        places = " or ".join(str(root.resolve()) for root in roots)
        raise ValueError(
            f"{option} must name the folder of a study, its {LEDGER}, or a study or the start of "
            f"the name of a folder in {places}, but got {wanted!r}."
            f"{near}"
        )

    @classmethod
    def claimed(cls, place: Path) -> Self:
        """Makes a new folder at `place`, or beside it with a number where something is there.

        Raises:
            OSError: if it cannot be made.
        """
        place.parent.mkdir(parents=True, exist_ok=True)
        number = 1
        while True:
            path = place if number == 1 else place.with_name(f"{place.name}-{number}")
            try:
                # Looks and takes in one step: of several processes one gets it.
                path.mkdir()
                return cls(path)
            except FileExistsError:
                number += 1


def study_name(ledger: Path) -> str | None:
    """The name of the study that a ledger begins with; None where it tells none."""
    try:
        with ledger.open("rb") as file:
            name = json.loads(file.readline(LONGEST_LINE))["name"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return name if isinstance(name, str) else None


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
