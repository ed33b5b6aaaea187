"""Checkpoints of trials in the folder of a study: which are kept, and which can be trusted.

Policy: of each trial the newest checkpoint that Tune has brought to the study's folder is kept,
and noted in the ledger before the one before it is deleted. A search trial's is deleted when the
trial ends, a confirmation's last one stays. The folder of an earlier session goes when no
checkpoint in it is needed any more.
"""

import shutil
import zipfile
from pathlib import Path

from study.ledger import Checkpoint, Journal, StudyFolder, file_sizes, own_path, records


def session_folder(folder: StudyFolder, number: int) -> Path:
    """A folder for Tune's files of a session, counted from 1, that nothing has used before.

    Processes of a killed session can still be writing into theirs.
    """
    while (folder.sessions / f"session-{number}").exists():
        number += 1
    return folder.sessions / f"session-{number}"


def broken(folder: StudyFolder, checkpoint: Checkpoint) -> str | None:
    """What is wrong with a checkpoint; None if it can be gone on from.

    Every file must be there with the size it had; of files that torch wrote, which are zip files,
    the contents must match their checksums.
    """
    for name, size in checkpoint.files.items():
        try:
            path = own_path(folder.path, f"{checkpoint.path}/{name}", checkpoint.source)
        except ValueError as error:
            return str(error)
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
    """The newest safe checkpoint of each trial; the journal has those of earlier sessions.

    ValueError where one of those leads out of the study's folder; see `check_paths`.
    """

    def __init__(self, folder: StudyFolder, journal: Journal) -> None:
        self._folder = folder
        self._root = folder.path.resolve()
        self._journal = journal
        self._places = {
            trial.trial: own_path(self._root, trial.checkpoint.path, trial.checkpoint.source)
            for trial in journal.history.trials.values()
            # Those of search trials that have ended are of no use any more.
            if trial.checkpoint and (trial.role == "confirm" or not trial.ended)
        }

    def start_of(self, trial: str) -> tuple[Path | None, int, str | None]:
        """Where an unfinished trial goes on: checkpoint folder, tasks in it, what was wrong.

        Without a checkpoint that can be trusted it begins again: the folder is None then.
        """
        checkpoint = self._journal.history.trials[trial].checkpoint
        problem = None if checkpoint is None else broken(self._folder, checkpoint)
        if checkpoint is None or problem is not None:
            return None, 0, problem
        return self._root / checkpoint.path, checkpoint.task, None

    def safe(self, trial: str, task: int, place: Path) -> None:
        """Takes a checkpoint after `task` tasks that is wholly written; deletes the older one."""
        old = self._places.get(trial)
        relative = place.relative_to(self._root).as_posix()
        self._journal.append(records.checkpoint(trial, task, relative, file_sizes(place)))
        self._places[trial] = place
        if old is not None and old != place:
            delete(old)

    def drop(self, trial: str) -> None:
        """Deletes the checkpoint of a trial, if it has one."""
        place = self._places.pop(trial, None)
        if place is not None:
            delete(place)

    def sweep(self) -> None:
        """Deletes all in the folders of sessions that is not needed, while no trial runs.

        That is what processes which were killed have left behind, and Tune's own files.
        """
        needed = set(self._places.values())
        for session in _folders(self._root / self._folder.sessions.name):
            for trial in _folders(session):
                for place in _folders(trial):
                    if place not in needed:
                        delete(place)
                if not _folders(trial):
                    delete(trial)
            if not _folders(session):
                delete(session)


def delete(folder: Path) -> None:
    """Deletes a folder; what cannot be deleted stays, which takes space and nothing else."""
    shutil.rmtree(folder, ignore_errors=True)


def _folders(parent: Path) -> list[Path]:
    return [entry for entry in parent.glob("*") if entry.is_dir() and not entry.is_symlink()]
