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

import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from study import yaml_text
from study.planning import PlannedTrial, make_plan
from study.spec import StudySpec
from tests.benchmarks.row import Row

START_SECONDS = 20.0
MOST = 1.05
PARTS = ("design", "train", "absorb", "evaluate")
# One thread for each trial, as Ray gives a trial of one core.
THREADS = {"OMP_NUM_THREADS": "1"}


def rows() -> list[Row]:
    """Wall time of the trials, and the start-up."""
    cores = int(os.environ.get("OVERHEAD_CORES", len(os.sched_getaffinity(0))))
    plain = _study(int(os.environ.get("OVERHEAD_TRIALS", "4")), cores)
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        home = folder / "home"
        home.mkdir()
        environment = {**os.environ, **THREADS, "HOME": str(home), "RAY_AUTH_MODE": "disabled"}
        # The cache of decoded images, so that neither side builds it while it is timed.
        _run([sys.executable, "-m", "study.run", *_file(folder, plain), "--prepare"], environment)
        bare = _bare(folder, plain, cores, environment)
        start = time.time()
        output = folder / "out"
        command = [sys.executable, "-m", "study.run", *_file(folder, plain)]
        _run([*command, "--output", str(output)], environment)
        lines = (output / "ledger.jsonl").read_text(encoding="utf-8").splitlines()
        records = [json.loads(line) for line in lines]
    ends = [one["time"] for one in records if one["kind"] == "end"]
    first = min(map(_begun, (one for one in records if one["kind"] == "task")))
    wall, started = max(ends) - first, first - start
    load = os.getloadavg()[0]
    note = (
        f"{wall:.1f} s against {bare:.1f} s for {len(ends)} trials on {cores} cores, "
        f"load average {load:.1f}"
    )
    return [
        Row("wall time of trials: study/run.py / bare loop", wall / bare, MOST, note),
        Row(
            "start-up to the first training step / 20 s",
            started / START_SECONDS,
            1.0,
            f"{started:.1f} s",
        ),
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


def _file(folder: Path, plain: Mapping[str, Any]) -> list[str]:
    path = folder / "overhead.yaml"
    path.write_text(json.dumps(plain), encoding="utf-8")  # JSON is YAML
    return [str(path)]


def _run(command: Sequence[str], environment: Mapping[str, str]) -> None:
    done = subprocess.run(command, env=dict(environment), capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} must succeed, but it said: {done.stderr[-2000:]}")


def _bare(
    folder: Path, plain: Mapping[str, Any], cores: int, environment: Mapping[str, str]
) -> float:
    """Seconds from the first training step to the end, a process for each core."""
    path = _file(folder, plain)[0]
    command = [sys.executable, "-m", "tests.benchmarks.bench_overhead", path, str(cores)]
    loops = [
        subprocess.Popen(
            [*command, str(core), str(folder / f"bare-{core}")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=dict(environment),
        )
        for core in range(cores)
    ]
    try:
        _answers(loops)
        for loop in loops:
            assert loop.stdin is not None
            loop.stdin.write("\n")
            loop.stdin.flush()
        begun = min(map(float, _answers(loops)))
        _answers(loops)
        return time.time() - begun
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def _answers(loops: Sequence["subprocess.Popen[str]"]) -> list[str]:
    """The next line of each loop."""
    lines = []
    for loop in loops:
        assert loop.stdout is not None
        lines.append(loop.stdout.readline())
        if not lines[-1]:
            raise RuntimeError("a bare loop must answer, but it ended: see its message above.")
    return lines


def _trials(path: Path) -> list[PlannedTrial]:
    plain = yaml_text.parse(path.read_text(encoding="utf-8"))
    (cell,) = make_plan(StudySpec.from_plain(plain, source=str(path))).cells
    return [cell.trial("confirm", {}, seed) for seed in cell.seeds]


def _loop(path: Path, cores: int, core: int, folder: Path) -> None:
    """Trains every `cores`-th trial, once a line comes in.

    Says a line when it is ready, the time at its first training step, and a line at the end.
    """
    import torch

    from trainables.config import TrialConfig
    from trainables.trainer import SequentialTrainer

    torch.set_num_threads(1)
    mine = list(itertools.islice(_trials(path), core, None, cores))
    _say("ready")
    sys.stdin.readline()
    for trial in mine:
        trainer = SequentialTrainer(TrialConfig.from_params(trial.params))
        if trial is mine[0]:
            _say(f"{time.time():.3f}")
        while not trainer.done:
            task = trainer.train_task().task
            trainer.save(folder / f"{trial.id}-{task}")
            shutil.rmtree(folder / f"{trial.id}-{task - 1}", ignore_errors=True)
    _say("done")


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    _loop(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
