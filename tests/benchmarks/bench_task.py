"""Tasks of a ViT-B trial at 224 px, through SequentialTrainer: where their time goes.

Two tasks of TASK_IMAGES (default 8, at least 4) random images, five epochs, batch TASK_BATCH (8;
both 512 and 128 on a GPU), the published augmentation, checkpoints after each task, all settings
else as a trial has them. Random pixels, a tiny task: so shares of a task of CIFAR-100's size in 50
tasks (1,000 training images a task, 200 test images of each task seen) are worked out from what an
image cost here in each part, and what is spent once a task. Evaluation is compared with the same
images pushed through timm's network without branches, heads or metrics, in the same batches. The
released design (moments on the host, a full SVD a layer) is timed beside InfLoRA's for the record.

Environment: also TASK_METHODS (default "inflora,sd_lora"), TASK_NETWORK, TASK_REPEATS (of the
evaluation, default 3), BENCH_THREADS (default 1).
"""

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from tests.benchmarks import image_file, machine, ours, reference_step, stopwatch
from tests.benchmarks.row import Row
from tests.benchmarks.shares import Shares
from trainables.backbones.registry import create_network
from trainables.config import TrialConfig
from trainables.data.batches import FORWARD_BATCH
from trainables.trainer import SequentialTrainer

SIZE = 224
EPOCHS = 5
TASKS = 2
# CIFAR-100 in 50 tasks.
SEQUENCE = 50
TRAIN_IMAGES = 1000
TEST_IMAGES = 200
DESIGN_AND_ABSORB = 0.15
OVER_BARE_FORWARD = 1.1


def rows() -> Iterator[Row]:
    """For each method: shares of a task, evaluation over a bare pass, the profile."""
    ours.prepare()
    methods = os.environ.get("TASK_METHODS", "inflora,sd_lora").split(",")
    for method in methods:
        yield from _rows(method, machine.device())


def _rows(method: str, device: torch.device) -> list[Row]:
    gpu = device.type == "cuda"
    images = int(os.environ.get("TASK_IMAGES", "512" if gpu else "8"))
    network = os.environ.get("TASK_NETWORK", ours.VIT)
    shares = Shares(device)
    with (
        image_file.random_set(2 * TASKS, images // 2, images // 2, SIZE) as keys,
        TemporaryDirectory() as folder,
    ):
        config = TrialConfig.from_params(
            {
                **keys,
                "method.name": method,
                "preset": "released",
                "data.tasks": TASKS,
                "data.augmentation": "random_resized_crop",
                "backbone.name": network,
                "backbone.pretrained": False,
                "optim.epochs": EPOCHS,
                "optim.batch_size": int(os.environ.get("TASK_BATCH", "128" if gpu else "8")),
                ours.PRECISION: machine.precisions()[0],
            }
        )
        trainer = SequentialTrainer(config, device.type)
        with shares.watching():
            while not trainer.done:
                trainer.train_task()
                trainer.save(Path(folder))
        return [
            *_of_a_task(method, shares, images),
            _evaluation(method, trainer, network, TASKS * images, device),
            *([_design(shares, images, network, device)] if method == "inflora" else []),
            *_profile(method, shares, images),
        ]


def _of_a_task(method: str, shares: Shares, images: int) -> list[Row]:
    seen = TASKS * images
    around = shares.of_phase("design", "absorb")
    train = shares.of_phase("train")
    # Passes grow with the images; decompositions and updates are there once a task.
    passing = sum(shares.of_phase("design", "absorb", part=one) for one in ("moments", "data"))
    once = (around - passing) / TASKS
    passes = TRAIN_IMAGES * passing / seen
    trained = TRAIN_IMAGES * train / seen
    # Test images of the first task are evaluated twice here.
    evaluate = shares.of_phase("evaluate") / (images * TASKS * (TASKS + 1) / 2)
    tested = TEST_IMAGES * evaluate * SEQUENCE * (SEQUENCE + 1) / 2
    note = f"{1000 * passing / seen:.0f} ms an image and {once:.2f} s once"
    found = [
        Row(
            f"task, {method}: design + absorb, share of {images} images", around / (around + train)
        ),
        Row(
            f"task, {method}: design + absorb, share of {TRAIN_IMAGES} images",
            (passes + once) / (passes + once + trained),
            DESIGN_AND_ABSORB,
            f"{note}; training {1000 * train / seen:.0f} ms an image",
        ),
    ]
    whole = SEQUENCE * (passes + once + trained) + tested
    found.append(
        Row(
            f"task, {method}: design + absorb, share of {SEQUENCE} whole tasks",
            SEQUENCE * (passes + once) / whole,
            DESIGN_AND_ABSORB,
            f"with the evaluation of all classes seen, {EPOCHS} epochs; worked out",
        )
    )
    for epochs in (EPOCHS, 20):
        rest = SEQUENCE * (passes + once + trained * epochs / EPOCHS)
        found.append(
            Row(
                f"task, {method}: evaluation, share of {SEQUENCE} tasks at {epochs} epochs",
                tested / (tested + rest),
                note=f"{1000 * evaluate:.0f} ms an image; worked out",
            )
        )
    return found


def _evaluation(
    method: str, trainer: SequentialTrainer, network: str, images: int, device: torch.device
) -> Row:
    bare = create_network(network, False, None, SIZE, 3).eval().to(device)
    pixels = (ours.random_images(images, device) / 255.0).split(FORWARD_BATCH)

    half = trainer.config.to_params().get(ours.PRECISION) == "bfloat16"

    @torch.no_grad()
    def push() -> None:
        # In the precision of the trial, or the bare pass would be the slower one.
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            for batch in pixels:
                bare(batch)

    calls = {"ours": lambda: trainer.time_evaluation(images), "bare": push}
    seconds = stopwatch.in_turns(calls, int(os.environ.get("TASK_REPEATS", "3")), device)
    return Row(
        f"task, {method}: evaluation / bare forward pass",
        seconds["ours"] / seconds["bare"],
        OVER_BARE_FORWARD,
        f"{seconds['ours']:.2f} s / {seconds['bare']:.2f} s, {images} images",
    )


def _design(shares: Shares, images: int, network: str, device: torch.device) -> Row:
    model = reference_step.ReferenceModel("inflora", 1, ours.CLASSES, network).to(device)
    batches = (ours.random_images(images, device) / 255.0).split(FORWARD_BATCH)
    calls = {"released": lambda: reference_step.design(model, batches)}
    released = stopwatch.in_turns(calls, 1, device)["released"]
    own = shares.of_phase("design") / TASKS
    return Row(
        "task, inflora: design, released recipe / ours",
        released / own,
        note=f"{released:.2f} s / {own:.2f} s, {images} images",
    )


def _profile(method: str, shares: Shares, images: int) -> list[Row]:
    total = sum(shares.parts.values())
    return [
        Row(
            f"profile, {method}: {part}",
            seconds / total,
            note=f"{seconds:.2f} s of {total:.1f} s, {TASKS} tasks of {images} images",
        )
        for part, seconds in shares.parts.items()
    ]
