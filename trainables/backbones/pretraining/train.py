"""Pretrains an embedded backbone on what no benchmark has, within a wall-clock budget.

`compact_vit` on icon concepts, dark on white; `plain_vit` on icon concepts and characters, half of
each, in street renditions of any strength up to `classifier.STREET`.
"""

import argparse
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import save_file
from torch import nn

from trainables.backbones.compact_vit import IMAGE_SIZE
from trainables.backbones.pretraining.characters import (
    CHARACTER,
    check_characters,
    collect_characters,
)
from trainables.backbones.pretraining.classifier import (
    NETWORKS,
    Classifier,
    optimisers_of,
    views,
)
from trainables.backbones.pretraining.concepts import (
    PretrainingSet,
    check_disjoint,
    collect,
    joined,
)
from trainables.backbones.pretraining.probe import (
    extract_features,
    glyph_accuracies,
    probe_features,
)
from trainables.data_sets.icons.icon_set import load_icons

STRENGTHS = (0.0, 0.5, 1.0)  # of the probes
BATCH = 128
PROBE_WEIGHT_DECAY = 1e-3  # while training; the final figures choose it on validation
WARM_UP_SHARE = 0.02  # of the budget
CLIP_NORM = 1.0
CHECKPOINT_SECONDS = 120.0
PROBE_AT = (1 / 3, 2 / 3)  # of the budget

logger = logging.getLogger(__name__)


@dataclass
class Progress:
    """What a resumed run goes on from: optimiser steps and seconds of training so far."""

    steps: int = 0
    seconds: float = 0.0
    probes: int = 0


def learning_rate(peak: float, done: float) -> float:
    """Return the rate at the share `done` in [0, 1] of the budget: linear warm-up, then cosine."""
    if done < WARM_UP_SHARE:
        return peak * (done + 1e-4) / WARM_UP_SHARE
    return peak * 0.5 * (1.0 + math.cos(math.pi * (done - WARM_UP_SHARE) / (1.0 - WARM_UP_SHARE)))


def pretrain(
    network: str,
    data: PretrainingSet,
    output: Path,
    minutes: float,
    seed: int,
    peak_rate: float,
    decay: float,
) -> None:
    """Train until `minutes` of training are over, then write the weights to `output`."""
    torch.manual_seed(seed)
    model = Classifier(network, len(data.class_names)).train()
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in the stubs
    optimisers = optimisers_of(network, model, peak_rate, decay)
    peak_rates = [group["lr"] for optimiser in optimisers for group in optimiser.param_groups]
    progress = Progress()
    checkpoint = output / "checkpoint.pt"
    if checkpoint.is_file():
        _restore(checkpoint, model, optimisers, progress)
    packed, labels = torch.from_numpy(data.packed.copy()), torch.from_numpy(data.labels)
    weights = torch.from_numpy(weights_of(data))
    steps_per_epoch = math.ceil((int(data.pairs.max()) + 1) / BATCH)
    weights_file = output / f"{network}.safetensors"
    budget = minutes * 60.0
    saved = time.monotonic()
    while progress.seconds < budget:
        order = torch.multinomial(weights, steps_per_epoch * BATCH, replacement=True)
        # What it draws is random anew after an interruption.
        generator = np.random.default_rng((seed, progress.steps))
        losses: list[float] = []
        for index in order.split(BATCH):
            start = time.monotonic()
            done = min(progress.seconds / budget, 1.0)
            share = learning_rate(1.0, done)
            groups = [group for optimiser in optimisers for group in optimiser.param_groups]
            for group, peak in zip(groups, peak_rates, strict=True):
                group["lr"] = share * peak
            both = model.losses(views(network, packed[index], generator), labels[index])
            losses.append(_step(model, optimisers, *both, 1.0 - done))
            progress.steps += 1
            progress.seconds += time.monotonic() - start
            if progress.seconds >= budget:
                break
        logger.info(
            "minute %.1f step %d loss %.3f rate %.2e images/s %.0f",
            progress.seconds / 60.0,
            progress.steps,
            sum(losses) / len(losses),
            share * peak_rate,
            progress.steps * BATCH / progress.seconds,
        )
        if time.monotonic() - saved > CHECKPOINT_SECONDS:
            saved = time.monotonic()
            _save(checkpoint, model, optimisers, progress)
            save_weights(model.backbone, weights_file)
        if progress.seconds >= budget * (*PROBE_AT, 2.0)[progress.probes]:
            progress.probes += 1
            _log_probe(network, model.backbone, seed)
    save_weights(model.backbone, weights_file)
    _log_probe(network, model.backbone, seed)


def weights_of(data: PretrainingSet) -> npt.NDArray[np.float64]:
    """How often each drawing is taken: characters as often as icons, where there are both.

    One (concept, family) counts as much as any other, however many variants it has.
    """
    weights = 1.0 / np.bincount(data.pairs)[data.pairs]
    is_character = np.array([name.startswith(CHARACTER) for name in data.class_names])[data.labels]
    for kind in (is_character, ~is_character):
        weights[kind] /= weights[kind].sum()
    return weights


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
    optimisers: Sequence[torch.optim.Optimizer],
    loss: torch.Tensor,
    helping: torch.Tensor,
    weight: float,
) -> float:
    model.zero_grad(set_to_none=True)
    (loss + weight * helping).backward()
    nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
    for optimiser in optimisers:
        optimiser.step()
    return float(loss.detach())


def _save(
    path: Path,
    model: nn.Module,
    optimisers: Sequence[torch.optim.Optimizer],
    progress: Progress,
) -> None:
    partial = path.with_suffix(".partial")
    state = {
        "model": model.state_dict(),
        "optimisers": [optimiser.state_dict() for optimiser in optimisers],
        "progress": vars(progress),
        "random": torch.get_rng_state(),
    }
    torch.save(state, partial)
    partial.replace(path)


def _restore(
    path: Path,
    model: nn.Module,
    optimisers: Sequence[torch.optim.Optimizer],
    progress: Progress,
) -> None:
    state = torch.load(path, weights_only=True)
    model.load_state_dict(state["model"])
    for optimiser, own in zip(optimisers, state["optimisers"], strict=True):
        optimiser.load_state_dict(own)
    torch.set_rng_state(state["random"])
    for name, value in state["progress"].items():
        setattr(progress, name, value)
    logger.info("resumed at step %d", progress.steps)


def _log_probe(network: str, backbone: nn.Module, seed: int) -> None:
    if network == "plain_vit":
        for strength, both in zip(STRENGTHS, glyph_accuracies(backbone, STRENGTHS), strict=True):
            logger.info("probe street %.2f nearest-class-mean %.4f linear %.4f", strength, *both)
        return
    icon_set = load_icons(IMAGE_SIZE)
    features = extract_features(backbone, icon_set)
    result = probe_features(features, icon_set, seed, PROBE_WEIGHT_DECAY)
    logger.info(
        "probe linear %.4f nearest-class-mean %.4f", result.linear, result.nearest_class_mean
    )


def _kept(path: Path, collected: Callable[[], PretrainingSet]) -> PretrainingSet:
    """What is in a file, collected first where there is none."""
    if not path.is_file():
        partial = path.with_suffix(".partial.npz")
        np.savez(partial, **vars(collected()))
        partial.replace(path)
    with np.load(path) as arrays:
        names = tuple(str(name) for name in arrays["class_names"])
        return PretrainingSet(arrays["packed"], arrays["labels"], arrays["pairs"], names)


def main() -> None:
    """Collect the drawings (once: they are kept in the output folder), check them and train."""
    parser = argparse.ArgumentParser(
        prog="python -m trainables.backbones.pretraining.train", description=__doc__
    )
    parser.add_argument("--network", choices=sorted(NETWORKS), default="compact_vit")
    parser.add_argument("--packages", type=Path, help="npm tarballs of fonts, for plain_vit")
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
            logging.FileHandler(arguments.output / f"{arguments.network}_log.txt"),
        ],
    )
    data = _kept(
        arguments.output / "concepts.npz", lambda: collect(arguments.tarball, arguments.threads)
    )
    check_disjoint(data)
    if arguments.network == "plain_vit":
        if arguments.packages is None:
            parser.error("--packages must be given for plain_vit")
        characters = _kept(
            arguments.output / "characters.npz",
            lambda: collect_characters(arguments.packages, arguments.threads),
        )
        check_characters(characters)
        data = joined(data, characters)
    logger.info(
        "seed %d budget %g minutes: %d images of %d pairs of class and family in %d classes",
        arguments.seed,
        arguments.minutes,
        len(data.labels),
        data.pairs.max() + 1,
        len(data.class_names),
    )
    pretrain(
        arguments.network,
        data,
        arguments.output,
        arguments.minutes,
        arguments.seed,
        arguments.learning_rate,
        arguments.weight_decay,
    )


if __name__ == "__main__":
    main()
