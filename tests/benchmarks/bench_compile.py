"""What `torch.compile` would gain in a training step, and after how many steps it would pay.

The trial of the benchmark `step` at task 10, as it is and with its network compiled. Start-up is
the wall time of the first compiled steps, less that of the same steps as they are: "cold" with an
empty cache of compiled code, "warm" with that of an equal trial. It is due in every trial, and
again whenever shapes change: InfLoRA and SD-LoRA add pairs at every task. CUDA graphs are what
COMPILE_MODE=reduce-overhead adds on a GPU.

Environment: COMPILE_NETWORKS (default "compact_vit,vit_base_patch16_224"), COMPILE_METHODS (default
"inflora,sd_lora"), COMPILE_BATCH (of the ViT-B; default 4, on a GPU 128; the small one's is 64),
COMPILE_MODE (default "default"), BENCH_THREADS (default 1).
"""

import os
import time
from collections.abc import Callable, Iterator
from tempfile import TemporaryDirectory

import torch

from tests.benchmarks import machine, ours, stopwatch
from tests.benchmarks.row import Row

TASK = 10
SMALL_BATCH = 64
REPEATS = 3
# Where torch keeps compiled code.
CACHE = "TORCHINDUCTOR_CACHE_DIR"


def rows() -> Iterator[Row]:
    """For each network and method: eager over compiled, and the steps until that pays."""
    ours.prepare()
    device = machine.device()
    networks = os.environ.get("COMPILE_NETWORKS", f"{ours.SMALL},{ours.VIT}").split(",")
    methods = os.environ.get("COMPILE_METHODS", "inflora,sd_lora").split(",")
    for network in networks:
        for method in methods:
            with TemporaryDirectory() as cache:
                os.environ[CACHE] = cache
                yield from _rows(network, method, device)


def _rows(network: str, method: str, device: torch.device) -> list[Row]:
    small = network == ours.SMALL
    large_batch = int(os.environ.get("COMPILE_BATCH", "128" if device.type == "cuda" else "4"))
    batch, steps = (SMALL_BATCH, 10) if small else (large_batch, 1)
    images = ours.random_images(batch, device, *((1, 32) if small else ()))
    config = ours.config_of(method, batch, steps, network)
    eager, cold, compiled = (ours.at_task(config, TASK, images) for _ in range(3))
    first = [_seconds(eager.train_steps, device)]
    for trial in (cold, compiled):
        # How often may be compiled is counted for the process.
        torch.compiler.reset()
        trial.model.compile(mode=os.environ.get("COMPILE_MODE", "default"))
        first.append(_seconds(trial.train_steps, device) - first[0])
    calls: dict[str, Callable[[], object]] = {
        "eager": eager.train_steps,
        "compiled": compiled.train_steps,
    }
    seconds = stopwatch.in_turns(calls, REPEATS, device)
    saved = (seconds["eager"] - seconds["compiled"]) / steps
    pays = [f"{start_up / saved:,.0f}" if saved > 0 else "never" for start_up in first[1:]]
    return [
        Row(
            f"compile, {network}, {method}: step as it is / compiled",
            seconds["eager"] / seconds["compiled"],
            note=f"start-up {first[1]:.0f} s cold, {first[2]:.0f} s warm: pays after {pays[0]} or "
            f"{pays[1]} steps of batch {batch}",
        )
    ]


def _seconds(call: Callable[[], object], device: torch.device) -> float:
    """Wall time: compilers run in processes of their own."""
    start = time.perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start
