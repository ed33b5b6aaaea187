"""One of several packed trials: `NETWORK SECONDS`; trains when told to and says images a second.

Says "ready" once warm, waits for a line, trains for so many seconds, says its rate.
"""

import sys
import time

from tests.benchmarks import machine, ours, stopwatch

# As a study trains it on a GPU.
BATCHES = {ours.VIT: 128, ours.SMALL: 64}
STEPS = 10


def main() -> None:
    """Runs one trial of SD-LoRA at its tenth task."""
    network, seconds = sys.argv[1], float(sys.argv[2])
    ours.prepare()
    device = machine.device()
    batch = BATCHES.get(network, 8)
    config = ours.config_of("sd_lora", batch, STEPS, network)
    shape = (config.data.channels, config.data.image_size)
    trial = ours.at_task(config, 10, ours.random_images(batch, device, *shape))
    trial.train_steps()
    stopwatch.now(device)
    _say("ready")
    sys.stdin.readline()
    start = time.perf_counter()
    images = 0
    while time.perf_counter() - start < seconds:
        trial.train_steps()
        stopwatch.now(device)  # waits for the device
        images += STEPS * batch
    _say(str(images / (time.perf_counter() - start)))


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
