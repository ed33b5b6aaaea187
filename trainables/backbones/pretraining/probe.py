"""Frozen-feature probes of a backbone: on all classes of the icons, and on glyphs by strength."""

import argparse
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from trainables.backbones.compact_vit import IMAGE_SIZE, create_compact_vit
from trainables.backbones.plain_vit import create_plain_vit
from trainables.data_sets.glyphs.glyph_set import load_glyphs
from trainables.data_sets.icons.icon_set import IconSet, load_icons
from trainables.data_sets.packed import Bytes
from trainables.data_sets.rendition import draws_of, street

WEIGHT_DECAYS = (1e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
VALIDATION_SHARE = 0.2
ITERATIONS = 200
GLYPH_CLASSES, GLYPH_WEIGHT_DECAY = 100, 3e-3
CARD_STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ProbeResult:
    """Test accuracies in [0, 1] of both probes, and the weight decay that validation chose."""

    linear: float
    nearest_class_mean: float
    weight_decay: float


@dataclass(frozen=True)
class Split:
    """Features (n, d) with their labels (n,)."""

    features: torch.Tensor
    labels: torch.Tensor

    def subset(self, index: torch.Tensor) -> Self:
        """Return the rows that the mask or index selects."""
        return type(self)(self.features[index], self.labels[index])


def probe_features(
    features: torch.Tensor, icon_set: IconSet, seed: int, weight_decay: float | None = None
) -> ProbeResult:
    """Probe features (n, d): learn on the training split, report on the test split.

    Without `weight_decay` it is chosen on a validation part of the training split.
    """
    everything = Split(features, torch.from_numpy(icon_set.labels))
    is_test = torch.from_numpy(icon_set.is_test)
    train, test = everything.subset(~is_test), everything.subset(is_test)
    if weight_decay is None:
        weight_decay = choose_weight_decay(train, seed)
    return ProbeResult(
        linear=linear_accuracy(train, test, weight_decay),
        nearest_class_mean=nearest_class_mean_accuracy(train, test),
        weight_decay=weight_decay,
    )


def extract_features(model: nn.Module, icon_set: IconSet) -> torch.Tensor:
    """Return the features (n, d) of all icons in float32, with the model in evaluation mode."""
    return features_of(model, icon_set.images)


def features_of(model: nn.Module, images: Bytes) -> torch.Tensor:
    """Return the features (n, d) of images uint8 (n, h, w), with the model in evaluation mode."""
    was_training = model.training
    model.eval()
    batches = torch.from_numpy(images).unsqueeze(1).split(256)
    with torch.inference_mode():
        features = torch.cat([model(batch.float() / 255.0) for batch in batches])
    model.train(was_training)
    return features.clone()


def nearest_class_mean_accuracy(train: Split, test: Split) -> float:
    """Score cosine similarity to class means, features centred on the training mean."""
    centre = train.features.mean(0)
    known = functional.normalize(train.features - centre, dim=1)
    asked = functional.normalize(test.features - centre, dim=1)
    classes = int(train.labels.max()) + 1
    means = torch.zeros(classes, known.shape[1]).index_add_(0, train.labels, known)
    predicted = (asked @ functional.normalize(means, dim=1).T).argmax(1)
    return float((predicted == test.labels).float().mean())


def linear_accuracy(train: Split, test: Split, weight_decay: float) -> float:
    """Score multinomial logistic regression on standardised features, fitted by L-BFGS."""
    mean, scale = train.features.mean(0), train.features.std(0) + 1e-6
    known, asked = (train.features - mean) / scale, (test.features - mean) / scale
    classes = int(train.labels.max()) + 1
    weight = torch.zeros(classes, known.shape[1], requires_grad=True)
    bias = torch.zeros(classes, requires_grad=True)
    optimiser = torch.optim.LBFGS(
        [weight, bias], max_iter=ITERATIONS, history_size=20, line_search_fn="strong_wolfe"
    )

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = functional.cross_entropy(functional.linear(known, weight, bias), train.labels)
        loss = loss + 0.5 * weight_decay * weight.square().sum()
        loss.backward()
        return loss

    optimiser.step(closure)
    with torch.no_grad():
        predicted = functional.linear(asked, weight, bias).argmax(1)
    return float((predicted == test.labels).float().mean())


def choose_weight_decay(train: Split, seed: int) -> float:
    """Return the weight decay that is best on a random validation part of the training split."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(train.labels), generator=generator)
    held_out = round(VALIDATION_SHARE * len(order))
    fit, validation = train.subset(order[held_out:]), train.subset(order[:held_out])
    return max(WEIGHT_DECAYS, key=lambda decay: linear_accuracy(fit, validation, decay))


def glyph_accuracies(
    model: nn.Module, strengths: Sequence[float], split: str = "validation"
) -> list[tuple[float, float]]:
    """Nearest class mean and linear probe on street glyphs, at each strength.

    100 classes, those of `data.classes: 100`; learned on images of training families, tested on
    those of another split. The weight decay is `GLYPH_WEIGHT_DECAY`.
    """
    glyphs = load_glyphs()
    order = np.random.default_rng(0).permutation(len(glyphs.class_names))
    chosen = np.sort(order[:GLYPH_CLASSES])
    splits = np.array(glyphs.face_splits)[glyphs.faces]
    rows = np.flatnonzero(np.isin(glyphs.labels, chosen) & np.isin(splits, ("train", split)))
    draws = draws_of(
        f"glyphs/{glyphs.class_names[label]}/{glyphs.face_names[face]}"
        for label, face in zip(glyphs.labels[rows], glyphs.faces[rows], strict=True)
    )
    labels = torch.from_numpy(np.searchsorted(chosen, glyphs.labels[rows]))
    is_train = torch.from_numpy(splits[rows] == "train")
    accuracies = []
    for strength in strengths:
        images = street(glyphs.images[rows], draws, strength)
        everything = Split(features_of(model, images), labels)
        parts = everything.subset(is_train), everything.subset(~is_train)
        linear = linear_accuracy(*parts, GLYPH_WEIGHT_DECAY)
        accuracies.append((nearest_class_mean_accuracy(*parts), linear))
    return accuracies


def raw_pixels(icon_set: IconSet) -> torch.Tensor:
    """Return the ink of each pixel in [0, 1] as features (n, size²)."""
    return 1.0 - torch.from_numpy(icon_set.images).flatten(1).float() / 255.0


def main() -> None:
    """Print the table of a card."""
    parser = argparse.ArgumentParser(
        prog="python -m trainables.backbones.pretraining.probe", description=__doc__
    )
    parser.add_argument("--network", choices=("compact_vit", "plain_vit"), default="compact_vit")
    parser.add_argument("--seed", type=int, default=0, help="validation cut and random weights")
    parser.add_argument("--output", type=Path, help="file to write the table to as well")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    table = _by_strength() if arguments.network == "plain_vit" else _by_features(arguments.seed)
    logger.info("%s", table)
    if arguments.output is not None:
        arguments.output.write_text(f"{table}\n", encoding="utf-8")


def _by_strength() -> str:
    """Of `plain_vit`, on validation families of `glyphs`."""
    lines = ["| Street strength | Nearest class mean | Linear probe |", "| --- " * 3 + "|"]
    accuracies = glyph_accuracies(create_plain_vit(), CARD_STRENGTHS)
    for strength, (nearest, linear) in zip(CARD_STRENGTHS, accuracies, strict=True):
        lines.append(f"| {strength:.2f} | {nearest:.3f} | {linear:.3f} |")
    return "\n".join(lines)


def _by_features(seed: int) -> str:
    """Of `compact_vit`, the same net with random weights, and raw pixels, on icons."""
    icon_set = load_icons(IMAGE_SIZE)
    torch.manual_seed(seed)
    results = {
        name: probe_features(features, icon_set, seed)
        for name, features in {
            "compact_vit": extract_features(create_compact_vit(), icon_set),
            "random weights": extract_features(create_compact_vit(False), icon_set),
            "raw pixels": raw_pixels(icon_set),
        }.items()
    }
    lines = ["| Features | Linear probe | Nearest class mean | Weight decay |", "| --- " * 4 + "|"]
    for name, result in results.items():
        lines.append(
            f"| {name} | {result.linear:.3f} | {result.nearest_class_mean:.3f} "
            f"| {result.weight_decay:g} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
