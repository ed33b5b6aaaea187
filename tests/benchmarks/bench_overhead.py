"""What the platform costs: trials through study/run.py against the same trials bare.

Each side trains the same trials (sequential fine-tuning of compact_vit on icons, ten tasks, one
seed each, on test images) on the same cores, one trial a core at a time, each with one thread.
Both import, decode images and start before the clock does, save a checkpoint after every task and
delete the one before. Study: from the launch of the first trial to the end of the last, by the
times in the ledger; that includes the launch of every trial, MLflow and the display, and not the
report. Bare: a process for each core, SequentialTrainer in a loop, from the moment at which all
have imported torch.

The row of the start-up is in units of its limit: seconds from the start of the command to the
first result in the ledger, less what training that task took.

Environment: OVERHEAD_TRIALS (default 4), OVERHEAD_EPOCHS (an epoch of all tasks takes a core about
two seconds; default 30, a trial of about a minute), OVERHEAD_CORES (default all).
"""

import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from study.ledger import read_ledger
from study.planning.plan import make_plan
from study.planning.spec import StudySpec
from tests.benchmarks.measuring import Row
from tests.benchmarks.workers import Workers, say, spent

START_SECONDS = 20.0
MOST = 1.05
PARTS = ("design", "train", "absorb", "evaluate")
# One thread for each trial, as Ray gives a trial of one core.
THREADS = {"OMP_NUM_THREADS": "1"}


def rows() -> list[Row]:
    """Wall time of the trials, and the start-up."""
    cores = int(os.environ.get("OVERHEAD_CORES", len(os.sched_getaffinity(0))))
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        own = {"HOME": str(folder), "RAY_AUTH_MODE": "disabled"}
        environment = {**os.environ, **THREADS, **own}
        file = folder / "overhead.yaml"
        plain = _study(int(os.environ.get("OVERHEAD_TRIALS", "4")), cores)
        file.write_text(json.dumps(plain), encoding="utf-8")  # JSON is YAML
        command = [sys.executable, "-m", "study.run", str(file)]
        # The cache of decoded images, so that neither side builds it while it is timed.
        spent([*command, "--prepare"], environment)
        bare = _bare(file, cores, environment)
        start = time.time()
        spent([*command, "--output", str(folder / "out")], environment)
        known = read_ledger(folder / "out" / "ledger.jsonl")
    ends = [record["time"] for record in known if record["kind"] == "end"]
    first = min(_begun(record) for record in known if record["kind"] == "task")
    wall, started = max(ends) - first, first - start
    note = f"{wall:.1f} s against {bare:.1f} s for {len(ends)} trials on {cores} cores"
    name = "start-up to the first training step / 20 s"
    return [
        Row("wall time of trials: study/run.py / bare loop", wall / bare, MOST, note),
        Row(name, started / START_SECONDS, 1.0, f"{started:.1f} s"),
    ]


def _study(trials: int, cores: int) -> dict[str, Any]:
    """A study of confirmations only: nothing is searched, one trial a seed."""
    return {
        "name": "overhead",
        "question": "What does the platform cost?",
        "grid": {"method.name": ["sequential"]},
        "fixed": {
            "data.name": "icons",
            "data.classes": 100,
            "data.tasks": 10,
            "data.train_per_class": 10,
            "data.test_per_class": 3,
            "backbone.name": "compact_vit",
            "optim.epochs": int(os.environ.get("OVERHEAD_EPOCHS", "30")),
        },
        "search": "none",
        "seeds": list(range(trials)),
        "max_concurrent": cores,
    }


def _begun(task: Mapping[str, Any]) -> float:
    """When the training of a task began, by its record."""
    took = sum(task["metrics"].get(f"time/{part}_seconds", 0.0) for part in PARTS)
    return float(task["time"] - took)


def _bare(file: Path, cores: int, environment: Mapping[str, str]) -> float:
    """Seconds from the first training step to the end, a process for each core."""
    command = ["tests.benchmarks.bench_overhead", str(file), str(cores)]
    commands = [[*command, str(core), f"{file}-{core}"] for core in range(cores)]
    with Workers(commands, env=environment) as loops:
        loops.answers()
        loops.go_on()
        begun = min(map(float, loops.answers()))
        loops.answers()
        return time.time() - begun


def _loop(path: Path, cores: int, core: int, folder: Path) -> None:
    """Trains every `cores`-th trial, once a line comes in.

    Says a line when it is ready, the time at its first training step, and a line at the end.
    """
    import torch

    from trainables.config import TrialConfig
    from trainables.trainer import SequentialTrainer

    torch.set_num_threads(1)
    plain = json.loads(path.read_text(encoding="utf-8"))
    (cell,) = make_plan(StudySpec.from_plain(plain, source=str(path))).cells
    mine = [cell.trial("confirm", {}, seed) for seed in cell.seeds[core::cores]]
    say("ready")
    sys.stdin.readline()
    for trial in mine:
        trainer = SequentialTrainer(TrialConfig.from_params(trial.params))
        if trial is mine[0]:
            say(f"{time.time():.3f}")
        while not trainer.done:
            task = trainer.train_task().task
            trainer.save(folder / f"{trial.id}-{task}")
            shutil.rmtree(folder / f"{trial.id}-{task - 1}", ignore_errors=True)
    say("done")


if __name__ == "__main__":
    _loop(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
