"""Checkpoints of trials in the folder of a study: which are kept, and which can be trusted.

Policy: of each trial the newest checkpoint that Tune has brought to the study's folder is kept,
and noted in the ledger before the one before it is deleted. A search trial's is deleted when the
trial ends, a confirmation's last one stays. The folder of an earlier session goes when no
checkpoint in it is needed any more.
"""

import shutil
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from study.ledger import Record

SESSIONS = "ray"


def session_folder(output: Path, number: int) -> Path:
    """A folder for Tune's files of a session, counted from 1, that nothing has used before.

    Processes of a killed session can still be writing into theirs.
    """
    while (output / SESSIONS / f"session-{number}").exists():
        number += 1
    return output / SESSIONS / f"session-{number}"


def broken(output: Path, checkpoint: Mapping[str, Any]) -> str | None:
    """What is wrong with the checkpoint of a record; None if it can be gone on from.

    Every file must be there with the size it had; of files that torch wrote, which are zip files,
    the contents must match their checksums.
    """
    folder = output / checkpoint["path"]
    for name, size in checkpoint["files"].items():
        path = folder / name
        try:
            if path.stat().st_size != size:
                return f"{path} has {path.stat().st_size} bytes and not {size}"
            if path.suffix == ".pt":
                with zipfile.ZipFile(path) as file:
                    if file.testzip() is not None:
                        return f"{path} is damaged"
        except (OSError, zipfile.BadZipFile) as error:
            return f"{path} cannot be read ({error})"
    return None


class Checkpoints:
    """The newest safe checkpoint of each trial.

    Args:
        output: the study's folder.
        record: takes the records of checkpoints.
        known: the newest checkpoint record of each trial of earlier sessions.
    """

    def __init__(
        self, output: Path, record: Callable[[Record], None], known: Mapping[str, Record]
    ) -> None:
        self._output = output.resolve()
        self._record = record
        self._folders = {trial: self._output / one["path"] for trial, one in known.items()}

    def safe(self, trial: str, task: int, folder: Path) -> None:
        """Takes a checkpoint after `task` tasks that is wholly written; deletes the older one."""
        old = self._folders.get(trial)
        files = {
            path.relative_to(folder).as_posix(): path.stat().st_size
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }
        relative = folder.relative_to(self._output).as_posix()
        self._record(
            {"kind": "checkpoint", "trial": trial, "task": task, "path": relative, "files": files}
        )
        self._folders[trial] = folder
        if old is not None and old != folder:
            delete(old)

    def drop(self, trial: str) -> None:
        """Deletes the checkpoint of a trial, if it has one."""
        folder = self._folders.pop(trial, None)
        if folder is not None:
            delete(folder)

    def sweep(self) -> None:
        """Deletes all in the folders of sessions that is not needed, while no trial runs.

        That is what processes which were killed have left behind, and Tune's own files.
        """
        needed = set(self._folders.values())
        for session in _folders(self._output / SESSIONS):
            for trial in _folders(session):
                for folder in _folders(trial):
                    if folder not in needed:
                        delete(folder)
                if not _folders(trial):
                    delete(trial)
            if not _folders(session):
                delete(session)


def delete(folder: Path) -> None:
    """Deletes a folder; what cannot be deleted stays, which takes space and nothing else."""
    shutil.rmtree(folder, ignore_errors=True)


def _folders(parent: Path) -> list[Path]:
    found: Iterable[Path] = parent.iterdir() if parent.is_dir() else ()
    return sorted(one for one in found if one.is_dir())
