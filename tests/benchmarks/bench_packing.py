"""1, 2, 4 and 8 trials side by side on one GPU: images a second in sum over those of one alone.

Each trial is a process that trains SD-LoRA at its tenth task; all start at the same moment. A small
network (compact_vit, 32 px) and ViT-B/16 at 224 px.

Environment: PACKING_SECONDS that each trains for (default 10).
"""

import os
import subprocess
import sys
import time

from tests.benchmarks import measuring, ours
from tests.benchmarks.workers import Workers, say

NEEDS_GPU = True
COUNTS = (1, 2, 4, 8)
# As a study trains it on a GPU.
BATCHES = {ours.VIT: 128, ours.SMALL: 64}
STEPS = 10


def rows() -> list[measuring.Row]:
    """A row for each network and number of trials."""
    return [row for network in (ours.SMALL, ours.VIT) for row in _rows(network)]


def _rows(network: str) -> list[measuring.Row]:
    rows = []
    alone: float | None = None
    for count in COUNTS:
        name = f"packing, {network}: {count} on one GPU / one alone"
        try:
            total = sum(side_by_side(network, count))
        except RuntimeError as error:
            rows.append(measuring.Row(name, None, note=str(error)))
            continue
        alone = total if count == 1 else alone
        ratio = None if alone is None else total / alone
        rows.append(measuring.Row(name, ratio, note=f"{total:.0f} images/s in sum"))
    return rows


def side_by_side(network: str, count: int) -> list[float]:
    """Images a second of each of `count` trials; RuntimeError if one of them ends early."""
    command = ["tests.benchmarks.bench_packing", network]
    with Workers([command] * count, stderr=subprocess.DEVNULL) as trials:
        trials.answers()
        trials.go_on()
        return [float(rate) for rate in trials.answers()]


def _train(network: str, seconds: float) -> None:
    """Says "ready" once warm, waits for a line, trains for so many seconds, says its rate."""
    ours.prepare()
    device = measuring.device()
    batch = BATCHES.get(network, 8)
    config = ours.config_of("sd_lora", batch, STEPS, network)
    shape = (config.data.channels, config.data.image_size)
    trial = ours.at_task(config, 10, ours.random_images(batch, device, *shape))
    trial.train_steps()
    measuring.now(device)
    say("ready")
    sys.stdin.readline()
    start = time.perf_counter()
    images = 0
    while time.perf_counter() - start < seconds:
        trial.train_steps()
        measuring.now(device)  # waits for the device
        images += STEPS * batch
    say(images / (time.perf_counter() - start))


if __name__ == "__main__":
    _train(sys.argv[1], float(os.environ.get("PACKING_SECONDS", "10")))
