"""Writes the reference timings of `--plan`: `python -m tests.benchmarks.make_timings`.

Every method on every embedded network, in CPU seconds of one thread (so that what else runs on the
machine does little), in units measured just before and after. Two short trials a method tell the
parts apart: few images in small batches, more images in larger ones.
"""

import sys
import time
from collections.abc import Mapping
from typing import Any

import torch

from study.ledger import provenance
from study.planning.costs.probe import Measured, measure
from study.planning.costs.timings import PARTS, TIMINGS, unit_seconds
from study.planning.costs.trial_cost import EVALUATION, PASSES, TRAINING
from trainables.config import TrialConfig
from trainables.config.catalog import methods

NETWORKS = {"plain_vit": ("icons", 32), "compact_vit": ("icons", 32), "test_vit": ("gaussian", 8)}
FEW = {"data.classes": 4, "data.train_per_class": 8, "optim.batch_size": 8}
MORE = {"data.classes": 8, "data.train_per_class": 16, "optim.batch_size": 32}
UNIT_SECONDS = 0.2
# Those that the default study has come first: the table can be used from then on.
FIRST = ("sequential_lora", "inflora", "sd_lora", "linear_heads", "nearest_mean", "sequential")


def timed(backbone: str, method: str) -> dict[str, float]:
    """What a method costs on a network, in units."""
    before = unit_seconds(UNIT_SECONDS)
    few, more = (_measured(backbone, method, size) for size in (FEW, MORE))
    unit = (before + unit_seconds(UNIT_SECONDS)) / 2
    new = [trial.loads[1].new for trial in (few, more)]
    passes = [sum(trial.metrics[1][key] for key in PASSES) for trial in (few, more)]
    each, task = _line((1, new[0]), (1, new[1]), passes)
    epochs = [trial.loads[1].epoch for trial in (few, more)]
    steps = [-(-e // size["optim.batch_size"]) for e, size in zip(epochs, (FEW, MORE), strict=True)]
    training = [trial.metrics[1][TRAINING] for trial in (few, more)]
    image, step = _line((steps[0], epochs[0]), (steps[1], epochs[1]), training)
    images, seconds = more.evaluated
    # What evaluating a task takes beside its images belongs to the task.
    task += max(0.0, more.metrics[1][EVALUATION] - seconds / images * more.loads[1].held_out)
    found = (more.setup_seconds, task, each, image, step, seconds / images)
    return {part: value / unit for part, value in zip(PARTS, found, strict=True)}


def _line(few: tuple[int, int], more: tuple[int, int], seconds: list[float]) -> tuple[float, float]:
    """Seconds an image and a time, none below 0, from (times, images) of two measurements."""
    (a, m), (b, n) = few, more
    image = (seconds[1] * a - seconds[0] * b) / (n * a - m * b)
    image = min(max(0.0, image), seconds[1] / n)
    return image, max(0.0, seconds[0] - image * m) / a


def _measured(backbone: str, method: str, size: Mapping[str, Any]) -> Measured:
    data, pixels = NETWORKS[backbone]
    params = {
        "method.name": method,
        "backbone.name": backbone,
        "data.name": data,
        "data.image_size": pixels,
        "data.tasks": 2,
        "backbone.pretrained": backbone != "test_vit",
        "optim.epochs": 1,
        **size,
    }
    return measure(TrialConfig.from_params(params).to_params(), 1, False)


def main() -> None:
    """Measures all, and writes the table, anew after each row."""
    time.perf_counter = time.process_time
    torch.set_num_threads(1)
    _measured("test_vit", "sequential", FEW)  # imports
    rows = [(backbone, method) for method in methods() for backbone in NETWORKS]
    rows.sort(key=lambda row: row[1] not in FIRST)
    lines = []
    head = (
        f"# CPU seconds of one thread, in those of an image in `unit_seconds` of "
        f"study/planning/costs/timings.py ({unit_seconds():.3g} s here).\n"
        f"# {provenance.machine()['processor']}, torch {torch.__version__}. Written by "
        "python -m tests.benchmarks.make_timings.\n"
        f"backbone,image_size,method,{','.join(PARTS)}\n"
    )
    for backbone, method in rows:
        try:
            found = timed(backbone, method)
        except (ValueError, KeyError, FloatingPointError) as error:
            print(f"{backbone} {method}: {error}", file=sys.stderr)  # noqa: T201
            continue
        numbers = ",".join(f"{found[part]:.3g}" for part in PARTS)
        lines.append(f"{backbone},{NETWORKS[backbone][1]},{method},{numbers}\n")
        print(lines[-1], end="", flush=True)  # noqa: T201
        TIMINGS.write_text(head + "".join(sorted(lines)), encoding="utf-8")


if __name__ == "__main__":
    main()
