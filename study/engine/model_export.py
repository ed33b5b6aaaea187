"""Merged weights of the confirmed winners, made at the end of a study by a process with torch."""

import json
import re
import subprocess
from collections.abc import Callable, Mapping

from study.engine.checkpoints import broken
from study.ledger import History, Journal, StudyFolder, TrialHistory, own_path, records
from study.system import own_command, own_environment, say

EXPORTER = "trainables.export.merge"
POLL_SECONDS = 0.2
# As weights come into the trials: nothing is downloaded here.
OFFLINE = {"HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}


def waiting(history: History) -> dict[str, TrialHistory]:
    """By cell, the trial whose weights are to be merged, where that was not done yet.

    Of the winner's seeds that were confirmed, it is the one that was launched first.
    """
    first: dict[str, TrialHistory] = {}
    for trial in history.trials.values():
        winner = history.winners.get(trial.cell)
        if (
            trial.role == "confirm"
            and winner is not None
            and trial.searched == winner.searched
            and trial.status == "completed"
            and trial.checkpoint is not None
            and trial.checkpoint.files
        ):
            first.setdefault(trial.cell, trial)
    return {cell: trial for cell, trial in first.items() if trial.trial not in history.models}


def export_models(folder: StudyFolder, journal: Journal, stopped: Callable[[], bool]) -> None:
    """Writes the merged weights of the winners to the folder of models; records each.

    One that cannot be made is said and left out. Once `stopped` is true, it ends.
    """
    jobs = {}
    for cell, trial in waiting(journal.history).items():
        assert trial.checkpoint is not None
        problem = broken(folder, trial.checkpoint)
        if problem is not None:
            say(f"Warning: no merged weights of {cell}: {problem}.")
            continue
        name = re.sub(r"[^A-Za-z0-9_.=-]+", "_", cell)[:100]
        place = folder.models / f"{name}-{trial.trial}"
        source = own_path(folder.path, trial.checkpoint.path, trial.checkpoint.source)
        jobs[cell] = (trial.trial, source, place)
    if not jobs:
        return
    pairs = [str(path) for _, source, place in jobs.values() for path in (source, place)]
    errors = _run(pairs, stopped)
    for cell, (trial_id, _, place) in jobs.items():
        try:
            about = json.loads((place / "model.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            why = errors.get(str(place), errors.get("", "?"))
            say(f"Warning: no merged weights of {cell}: {why}")
            continue
        size = sum(path.stat().st_size for path in place.iterdir())
        relative = place.relative_to(folder.path).as_posix()
        journal.append(records.model(cell, trial_id, relative, size, about["sha256"]))


def _run(pairs: list[str], stopped: Callable[[], bool]) -> Mapping[str, str]:
    """Exports pairs of a checkpoint's and a new folder; what went wrong by new folder."""
    process = subprocess.Popen(
        own_command(EXPORTER, pairs),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**own_environment(), **OFFLINE},
    )
    errors = ""
    while True:
        try:
            _, errors = process.communicate(timeout=POLL_SECONDS)
            break
        except subprocess.TimeoutExpired:
            if stopped():
                process.terminate()
    lines = errors.strip().splitlines()
    told = (line.partition(": ") for line in lines)
    # Under "": what its process said last, should that have ended early.
    last = {"": lines[-1]} if lines else {}
    return last | {folder: text for folder, _, text in told if folder in pairs}
