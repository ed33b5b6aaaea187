"""What learns in pretraining: a backbone with what helps it at first; its views, its optimisers."""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from trainables.backbones.compact_vit import IMAGE_SIZE, WIDTH, create_compact_vit
from trainables.backbones.plain_vit import create_plain_vit
from trainables.backbones.pretraining.augment import augment, unpack
from trainables.data_sets.rendition import random_draws, street

NETWORKS: Mapping[str, Callable[[], nn.Module]] = MappingProxyType(
    {
        "compact_vit": partial(create_compact_vit, False),
        "plain_vit": partial(create_plain_vit, False),
    }
)
STREET = 0.15  # the largest strength in pretraining
LABEL_SMOOTHING = 0.1
# Of the losses that help, falling to 0 over the budget.
STEM_WEIGHT, TEACHER_WEIGHT = 0.5, 2.0
MUON_FACTOR = 3.0  # rate of Muon over that of AdamW


class Views(NamedTuple):
    """Images (n, 1, 32, 32) in [0, 1] to learn on, and what is drawn in them, dark on white."""

    images: torch.Tensor
    drawings: torch.Tensor


def views(network: str, packed: torch.Tensor, generator: np.random.Generator) -> Views:
    """Random views of drawings."""
    drawings = augment(unpack(packed), IMAGE_SIZE)
    if network == "compact_vit":
        return Views(drawings, drawings)
    grey = drawings.squeeze(1).mul(255).round().to(torch.uint8).numpy()
    strength = generator.random(len(grey)) * STREET
    rendered = street(grey, random_draws(generator, len(grey)), strength)
    return Views(torch.from_numpy(rendered).unsqueeze(1).float() / 255.0, drawings)


class Classifier(nn.Module):
    """The backbone with a linear head on its features, and with what helps it at first.

    Blocks that are not trained yet stay on a plateau for a long time, and convolutions get no
    useful gradient through them. So `compact_vit` has a second head on the mean of its input
    tokens, and `plain_vit` tells from its features what those of `compact_vit` are for the same
    drawing, dark on white. Both are thrown away later.
    """

    def __init__(self, network: str, classes: int) -> None:
        super().__init__()
        self.backbone = NETWORKS[network]()
        self.head = _linear(classes)
        # In a tuple, so that it is no part of this network.
        self.teacher: tuple[nn.Module, ...] = ()
        if network == "plain_vit":
            self.teacher = (create_compact_vit(),)
            self.teacher_head = _linear(WIDTH)
        else:
            self.stem_norm = nn.LayerNorm(WIDTH)
            self.stem_head = _linear(classes)

    def losses(self, views: Views, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the loss of the head, and of what helps."""
        return self._taught(views, labels) if self.teacher else self._with_stem(views, labels)

    def _taught(self, views: Views, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.autocast("cpu", torch.bfloat16):
            features = self.backbone(views.images)
            logits, told = self.head(features), self.teacher_head(features)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            taught = self.teacher[0](views.drawings).float()
        taught = (taught - taught.mean(0)) / (taught.std(0) + 1e-3)
        difference = functional.mse_loss(told.float(), taught)
        return _cross_entropy(logits, labels), TEACHER_WEIGHT * difference

    def _with_stem(self, views: Views, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        tokens: list[torch.Tensor] = []
        hook = self.backbone.get_submodule("patch_embed").register_forward_hook(
            lambda _module, _inputs, output: tokens.append(output)
        )
        with torch.autocast("cpu", torch.bfloat16):
            logits = self.head(self.backbone(views.images))
            stem_logits = self.stem_head(self.stem_norm(tokens[0].mean(1)))
        hook.remove()
        return _cross_entropy(logits, labels), STEM_WEIGHT * _cross_entropy(stem_logits, labels)


def _linear(outputs: int) -> nn.Linear:
    head = nn.Linear(WIDTH, outputs)
    nn.init.trunc_normal_(head.weight, std=0.02)
    nn.init.zeros_(head.bias)
    return head


def _cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(logits.float(), labels, label_smoothing=LABEL_SMOOTHING)


def optimisers_of(
    network: str, model: Classifier, rate: float, decay: float
) -> list[torch.optim.Optimizer]:
    """AdamW at `rate`, and for the matrices of `plain_vit`'s blocks Muon at a multiple of it."""
    muon = []
    if network == "plain_vit":
        blocks = model.backbone.get_submodule("blocks")
        muon = [weight for weight in blocks.parameters() if weight.ndim == 2]
    taken = set(map(id, muon))
    others = [p for p in model.parameters() if id(p) not in taken]
    matrices = [p for p in others if p.ndim > 1 and p.shape[0] > 1]
    vectors = [p for p in others if not (p.ndim > 1 and p.shape[0] > 1)]
    groups = [{"params": matrices, "weight_decay": decay}, {"params": vectors, "weight_decay": 0.0}]
    optimisers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98), fused=True)
    ]
    if muon:
        optimisers.append(
            torch.optim.Muon(
                muon, MUON_FACTOR * rate, weight_decay=decay, adjust_lr_fn="match_rms_adamw"
            )
        )
    return optimisers
