"""Pretrains `compact_vit` on icon concepts outside the benchmark, within a wall-clock budget."""

import argparse
import logging
import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

from trainables.backbones.compact_vit import IMAGE_SIZE, WIDTH, create_compact_vit
from trainables.backbones.pretraining.augment import augment, unpack
from trainables.backbones.pretraining.concepts import PretrainingSet, check_disjoint, collect
from trainables.backbones.pretraining.probe import extract_features, probe_features
from trainables.data_sets.icons.icon_set import load_icons

BATCH = 128
PROBE_WEIGHT_DECAY = 1e-3  # while training; the final figures choose it on validation
WARM_UP_SHARE = 0.02  # of the budget
CLIP_NORM = 1.0
STEM_WEIGHT = 0.5  # of the loss of the second head, falling to 0 over the budget
LABEL_SMOOTHING = 0.1
CHECKPOINT_SECONDS = 120.0
PROBE_AT = (1 / 3, 2 / 3)  # of the budget

logger = logging.getLogger(__name__)


@dataclass
class Progress:
    """What a resumed run goes on from: optimiser steps and seconds of training so far."""

    steps: int = 0
    seconds: float = 0.0
    probes: int = 0


class Classifier(nn.Module):
    """The backbone with one linear head on its features and one on the mean of its input tokens.

    The second head is thrown away later. Without it the transformer blocks stay on a plateau for
    a long time, because the convolutions get no useful gradient through untrained blocks.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.backbone = create_compact_vit(pretrained=False)
        self.head = nn.Linear(WIDTH, classes)
        self.stem_norm = nn.LayerNorm(WIDTH)
        self.stem_head = nn.Linear(WIDTH, classes)
        for head in (self.head, self.stem_head):
            nn.init.trunc_normal_(head.weight, std=0.02)
            nn.init.zeros_(head.bias)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return both logits (n, classes) of `images` (n, 1, 32, 32) in [0, 1]."""
        tokens: list[torch.Tensor] = []
        patch_embed = self.backbone.get_submodule("patch_embed")
        hook = patch_embed.register_forward_hook(
            lambda _module, _inputs, output: tokens.append(output)
        )
        features = self.backbone(images)
        hook.remove()
        return self.head(features), self.stem_head(self.stem_norm(tokens[0].mean(1)))


def learning_rate(peak: float, done: float) -> float:
    """Return the rate at the share `done` in [0, 1] of the budget: linear warm-up, then cosine."""
    if done < WARM_UP_SHARE:
        return peak * (done + 1e-4) / WARM_UP_SHARE
    return peak * 0.5 * (1.0 + math.cos(math.pi * (done - WARM_UP_SHARE) / (1.0 - WARM_UP_SHARE)))


def pretrain(
    data: PretrainingSet, output: Path, minutes: float, seed: int, peak_rate: float, decay: float
) -> None:
    """Train until `minutes` of training are over, then write the weights to `output`."""
    torch.manual_seed(seed)
    model = Classifier(len(data.class_names)).train()
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in the stubs
    optimiser = _optimiser(model, peak_rate, decay)
    progress = Progress()
    checkpoint = output / "checkpoint.pt"
    if checkpoint.is_file():
        _restore(checkpoint, model, optimiser, progress)
    packed, labels = torch.from_numpy(data.packed.copy()), torch.from_numpy(data.labels)
    # One (concept, family) counts as much as any other, however many variants it has.
    weights = torch.from_numpy(1.0 / np.bincount(data.pairs)[data.pairs])
    steps_per_epoch = math.ceil((int(data.pairs.max()) + 1) / BATCH)
    budget = minutes * 60.0
    saved = time.monotonic()
    while progress.seconds < budget:
        order = torch.multinomial(weights, steps_per_epoch * BATCH, replacement=True)
        losses: list[float] = []
        for index in order.split(BATCH):
            start = time.monotonic()
            done = min(progress.seconds / budget, 1.0)
            rate = learning_rate(peak_rate, done)
            for group in optimiser.param_groups:
                group["lr"] = rate
            images = augment(unpack(packed[index]), IMAGE_SIZE)
            stem_weight = STEM_WEIGHT * (1.0 - done)
            losses.append(_step(model, optimiser, images, labels[index], stem_weight))
            progress.steps += 1
            progress.seconds += time.monotonic() - start
            if progress.seconds >= budget:
                break
        logger.info(
            "minute %.1f step %d loss %.3f rate %.2e images/s %.0f",
            progress.seconds / 60.0,
            progress.steps,
            sum(losses) / len(losses),
            rate,
            progress.steps * BATCH / progress.seconds,
        )
        if time.monotonic() - saved > CHECKPOINT_SECONDS:
            saved = time.monotonic()
            _save(checkpoint, model, optimiser, progress)
            save_weights(model.backbone, output / "compact_vit.safetensors")
        if progress.seconds >= budget * (*PROBE_AT, 2.0)[progress.probes]:
            progress.probes += 1
            _log_probe(model.backbone, seed)
    save_weights(model.backbone, output / "compact_vit.safetensors")
    _log_probe(model.backbone, seed)


def save_weights(backbone: nn.Module, path: Path) -> None:
    """Write all floating-point parameters and buffers as float16 safetensors."""
    state = {
        name: value.detach().to(torch.float16).contiguous()
        for name, value in backbone.state_dict().items()
        if value.is_floating_point()
    }
    save_file(state, path)


def _step(
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    images: torch.Tensor,
    labels: torch.Tensor,
    stem_weight: float,
) -> float:
    with torch.autocast("cpu", torch.bfloat16):
        both = model(images)
    loss, stem_loss = (
        functional.cross_entropy(logits.float(), labels, label_smoothing=LABEL_SMOOTHING)
        for logits in both
    )
    optimiser.zero_grad(set_to_none=True)
    (loss + stem_weight * stem_loss).backward()
    nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
    optimiser.step()
    return float(loss.detach())


def _optimiser(model: nn.Module, rate: float, decay: float) -> torch.optim.Optimizer:
    matrices = [p for p in model.parameters() if p.ndim > 1 and p.shape[0] > 1]
    vectors = [p for p in model.parameters() if not (p.ndim > 1 and p.shape[0] > 1)]
    groups = [{"params": matrices, "weight_decay": decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98), fused=True)


def _save(
    path: Path, model: nn.Module, optimiser: torch.optim.Optimizer, progress: Progress
) -> None:
    partial = path.with_suffix(".partial")
    state = {
        "model": model.state_dict(),
        "optimiser": optimiser.state_dict(),
        "progress": vars(progress),
        "random": torch.get_rng_state(),
    }
    torch.save(state, partial)
    partial.replace(path)


def _restore(
    path: Path, model: nn.Module, optimiser: torch.optim.Optimizer, progress: Progress
) -> None:
    state = torch.load(path, weights_only=True)
    model.load_state_dict(state["model"])
    optimiser.load_state_dict(state["optimiser"])
    torch.set_rng_state(state["random"])
    for name, value in state["progress"].items():
        setattr(progress, name, value)
    logger.info("resumed at step %d", progress.steps)


def _log_probe(backbone: nn.Module, seed: int) -> None:
    icon_set = load_icons(IMAGE_SIZE)
    features = extract_features(backbone, icon_set)
    result = probe_features(features, icon_set, seed, PROBE_WEIGHT_DECAY)
    logger.info(
        "probe linear %.4f nearest-class-mean %.4f", result.linear, result.nearest_class_mean
    )


def main() -> None:
    """Collect the drawings (once: they are kept in the output folder), check them and train."""
    parser = argparse.ArgumentParser(
        prog="python -m trainables.backbones.pretraining.train", description=__doc__
    )
    parser.add_argument("--tarball", type=Path, required=True, help="npm tarball of @iconify/json")
    parser.add_argument("--output", type=Path, required=True, help="folder for log and weights")
    parser.add_argument("--minutes", type=float, default=60.0, help="wall clock spent on training")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--learning-rate", type=float, default=2e-3, help="peak of the schedule")
    parser.add_argument("--weight-decay", type=float, default=0.05)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arguments.output.mkdir(parents=True, exist_ok=True)
    logging.basicConfig(
        level=logging.INFO,
        format="%(message)s",
        handlers=[
            logging.StreamHandler(),
            logging.FileHandler(arguments.output / "compact_vit_log.txt"),
        ],
    )
    cache = arguments.output / "concepts.npz"
    if not cache.is_file():
        np.savez(cache, **vars(collect(arguments.tarball, arguments.threads)))
    with np.load(cache) as arrays:
        names = tuple(str(name) for name in arrays["class_names"])
        data = PretrainingSet(arrays["packed"], arrays["labels"], arrays["pairs"], names)
    check_disjoint(data)
    logger.info(
        "seed %d budget %g minutes: %d images of %d (concept, family) pairs in %d concepts",
        arguments.seed, arguments.minutes, len(data.labels), data.pairs.max() + 1, len(names),
    )  # fmt: skip
    pretrain(
        data,
        arguments.output,
        arguments.minutes,
        arguments.seed,
        arguments.learning_rate,
        arguments.weight_decay,
    )


if __name__ == "__main__":
    main()
