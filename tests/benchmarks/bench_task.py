"""Tasks of a ViT-B trial at 224 px, through SequentialTrainer: where their time goes.

Two tasks of TASK_IMAGES (default 8, at least 4; 512 on a GPU) random images, five epochs, the
published augmentation, checkpoints after each task, all settings else as a trial has them. Random
pixels, a tiny task: so shares of a task of CIFAR-100's size in 50
tasks (1,000 training images a task, 200 test images of each task seen) are worked out from what an
image cost here in each part, and what is spent once a task. Evaluation is compared with the same
images pushed through timm's network without branches, heads or metrics, in the same batches, also
of the methods with prompts, whose queries are computed once. The
released design (moments on the host, a full SVD a layer) is timed beside InfLoRA's for the record.

Environment: TASK_IMAGES.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from tests.benchmarks import measuring, ours, reference
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
# One pass with prompts: up to 25 tokens among 197. A pass for the query beside it would make it 2.
PROMPTED = ("l2p", "dual_prompt", "coda_prompt", "hide_prompt")
OVER_BARE_PROMPTED = 1.3


def rows() -> Iterator[measuring.Row]:
    """For each method: shares of a task, evaluation over a bare pass, the profile."""
    ours.prepare()
    device = measuring.device()
    images = int(os.environ.get("TASK_IMAGES", "512" if device.type == "cuda" else "8"))
    for method in ours.METHODS:
        yield from _rows(method, images, device)
    for method in PROMPTED:
        yield _with_prompts(method, images, device)


def _rows(method: str, images: int, device: torch.device) -> list[measuring.Row]:
    shares = Shares(device)
    with (
        ours.random_set(2 * TASKS, images // 2, images // 2, SIZE) as keys,
        TemporaryDirectory() as folder,
    ):
        changes = {
            "data.tasks": TASKS,
            "data.augmentation": "random_resized_crop",
            "optim.epochs": EPOCHS,
            "optim.batch_size": ours.batch(),
            ours.PRECISION: measuring.precisions()[0],
        }
        params = {**keys, **ours.released(method, ours.NETWORK), **changes}
        trainer = SequentialTrainer(TrialConfig.from_params(params), device.type)
        with shares.watching():
            while not trainer.done:
                trainer.train_task()
                trainer.save(Path(folder))
        return [
            *_of_a_task(method, shares, images),
            _evaluation(method, trainer, TASKS * images, device),
            *([_design(shares, images, device)] if method == "inflora" else []),
            *_profile(method, shares, images),
        ]


def _with_prompts(method: str, images: int, device: torch.device) -> measuring.Row:
    """Evaluation alone, of one task after one epoch: queries are known by then."""
    with ours.random_set(2, images // 2, images // 2, SIZE) as keys:
        few = {"data.tasks": 1, "optim.epochs": 1, "optim.batch_size": ours.batch()}
        precision = {ours.PRECISION: measuring.precisions()[0]}
        own = {**ours.released(method, ours.NETWORK), "preset": "corrected"}
        trainer = SequentialTrainer(
            TrialConfig.from_params({**keys, **own, **few, **precision}), device.type
        )
        trainer.train_task()
        return _evaluation(method, trainer, images, device, OVER_BARE_PROMPTED)


def _of_a_task(method: str, shares: Shares, images: int) -> list[measuring.Row]:
    seen = TASKS * images
    around = shares.of_phase("design", "absorb")
    train = shares.of_phase("train")
    # Passes grow with the images; decompositions and updates are there once a task.
    passing = sum(shares.of_phase("design", "absorb", part=part) for part in ("moments", "data"))
    once = (around - passing) / TASKS
    passes = TRAIN_IMAGES * passing / seen
    trained = TRAIN_IMAGES * train / seen
    # Test images of the first task are evaluated twice here.
    evaluate = shares.of_phase("evaluate") / (images * TASKS * (TASKS + 1) / 2)
    tested = TEST_IMAGES * evaluate * SEQUENCE * (SEQUENCE + 1) / 2
    name = f"task, {method}: design + absorb, share of"
    note = (
        f"{1000 * passing / seen:.0f} ms an image and {once:.2f} s once; training "
        f"{1000 * train / seen:.0f} ms an image"
    )
    share = (passes + once) / (passes + once + trained)
    whole = SEQUENCE * (passes + once) / (SEQUENCE * (passes + once + trained) + tested)
    how = f"with the evaluation of all classes seen, {EPOCHS} epochs; worked out"
    rows = [
        measuring.Row(f"{name} {images} images", around / (around + train)),
        measuring.Row(f"{name} {TRAIN_IMAGES} images", share, DESIGN_AND_ABSORB, note),
        measuring.Row(f"{name} {SEQUENCE} whole tasks", whole, DESIGN_AND_ABSORB, how),
    ]
    for epochs in (EPOCHS, 20):
        rest = SEQUENCE * (passes + once + trained * epochs / EPOCHS)
        name = f"task, {method}: evaluation, share of {SEQUENCE} tasks at {epochs} epochs"
        note = f"{1000 * evaluate:.0f} ms an image; worked out"
        rows.append(measuring.Row(name, tested / (tested + rest), note=note))
    return rows


def _evaluation(
    method: str,
    trainer: SequentialTrainer,
    images: int,
    device: torch.device,
    limit: float = OVER_BARE_FORWARD,
) -> measuring.Row:
    bare = create_network(ours.NETWORK, False, None, SIZE, 3).eval().to(device)
    pixels = (ours.random_images(images, device) / 255.0).split(FORWARD_BATCH)

    half = trainer.config.to_params().get(ours.PRECISION) == "bfloat16"

    @torch.no_grad()
    def push() -> None:
        # In the precision of the trial, or the bare pass would be the slower one.
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            for batch in pixels:
                bare(batch)

    calls = {"ours": lambda: trainer.time_evaluation(images), "bare": push}
    seconds = measuring.in_turns(calls, device)
    note = f"{seconds['ours']:.2f} s / {seconds['bare']:.2f} s, {images} images"
    name = f"task, {method}: evaluation / bare forward pass"
    return measuring.Row(name, seconds["ours"] / seconds["bare"], limit, note)


def _design(shares: Shares, images: int, device: torch.device) -> measuring.Row:
    model = reference.ReferenceModel("inflora", 1, ours.CLASSES, ours.NETWORK).to(device)
    batches = (ours.random_images(images, device) / 255.0).split(FORWARD_BATCH)
    calls = {"released": lambda: reference.design(model, batches)}
    released = measuring.in_turns(calls, device, 1)["released"]
    own = shares.of_phase("design") / TASKS
    note = f"{released:.2f} s / {own:.2f} s, {images} images"
    return measuring.Row("task, inflora: design, released recipe / ours", released / own, note=note)


def _profile(method: str, shares: Shares, images: int) -> list[measuring.Row]:
    total = sum(shares.parts.values())
    of = f"of {total:.1f} s, {TASKS} tasks of {images} images"
    return [
        measuring.Row(f"profile, {method}: {part}", seconds / total, note=f"{seconds:.2f} s {of}")
        for part, seconds in shares.parts.items()
    ]
