"""Merged weights of the confirmed winners, made at the end of a study by a process with torch."""

import json
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from study.checkpoints import broken
from study.ledger import Record
from study.own_process import own_command, own_environment
from study.seed_means import canonical
from study.terminal import say

EXPORTER = "trainables.export"
MODELS = "models"
# What `trainables.export` writes of a model.
FILES = ("model.safetensors", "model.json", "load.py")
POLL_SECONDS = 0.2
# As weights come into the trials: nothing is downloaded here.
OFFLINE = {"HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}


class Winners:
    """Picks, of the records that it is given, each cell's winner as first confirmed."""

    def __init__(self) -> None:
        self._winners: dict[str, Record] = {}
        self._trials: dict[str, Record] = {}
        self._checkpoints: dict[str, Record] = {}
        self._completed: set[str] = set()
        self._models: set[str] = set()

    def take(self, record: Record) -> None:
        """Takes the next record of the ledger."""
        kind = record["kind"]
        if kind == "winner":
            self._winners[record["cell"]] = record
        elif kind == "trial" and record["role"] == "confirm":
            self._trials.setdefault(record["trial"], record)
        elif kind == "checkpoint":
            self._checkpoints[record["trial"]] = record
        elif kind == "end" and record["status"] == "completed":
            self._completed.add(record["trial"])
        elif kind == "model":
            self._models.add(record["trial"])

    def waiting(self) -> dict[str, tuple[Record, Record]]:
        """By cell, the trial to export and its checkpoint, where that was not done yet.

        Of the winner's seeds that were confirmed, it is the one that was launched first.
        """
        found: dict[str, tuple[Record, Record]] = {}
        for trial, record in self._trials.items():
            cell = record["cell"]
            winner = self._winners.get(cell)
            if (
                winner is not None
                and cell not in found
                and canonical(record["searched"]) == canonical(winner["searched"])
                and trial in self._completed
                and "files" in self._checkpoints.get(trial, {})
            ):
                found[cell] = (record, self._checkpoints[trial])
        return {cell: one for cell, one in found.items() if one[0]["trial"] not in self._models}


def export_models(output: Path, winners: Winners, stopped: Callable[[], bool]) -> Iterator[Record]:
    """Writes the merged weights of the winners to `output`/models; gives a record of each.

    One that cannot be made is said and left out. Once `stopped` is true, it ends.
    """
    jobs = {}
    for cell, (trial, checkpoint) in winners.waiting().items():
        wrong = broken(output, checkpoint)
        if wrong is not None:
            say(f"Warning: no merged weights of {cell}: {wrong}.")
            continue
        folder = Path(MODELS) / f"{_file_name(cell)}-{trial['trial']}"
        jobs[cell] = (trial["trial"], output / checkpoint["path"], folder)
    if not jobs:
        return
    pairs = [str(one) for _, source, folder in jobs.values() for one in (source, output / folder)]
    errors = _run(pairs, stopped)
    for cell, (trial_id, _, folder) in jobs.items():
        try:
            about = json.loads((output / folder / "model.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            why = errors.get(str(output / folder), errors.get("", "?"))
            say(f"Warning: no merged weights of {cell}: {why}")
            continue
        size = sum(path.stat().st_size for path in (output / folder).iterdir())
        yield {
            "kind": "model",
            "cell": cell,
            "trial": trial_id,
            "folder": folder.as_posix(),
            "bytes": size,
            "sha256": about["sha256"],
        }


def model_files(output: Path, folder: str) -> list[Path]:
    """Returns the files of a model that are in `folder`, which lies in `output`.

    Raises:
        ValueError: if `folder` leads out of the models of `output`, as in the ledger of somebody
            else: nothing but models is sent to a server.
    """
    models, place = (output / MODELS).resolve(), (output / folder).resolve()
    if Path(folder).is_absolute() or not place.is_relative_to(models) or place == models:
        raise ValueError(f"a model's folder must lie below {MODELS}/, but is {folder!r}.")
    found = (place / name for name in FILES)
    return [path for path in found if path.is_file() and not path.is_symlink()]


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


def _file_name(cell: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.=-]+", "_", cell)[:100]
