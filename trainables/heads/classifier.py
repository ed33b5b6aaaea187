"""Classifier: the head that a method's config names, trained or fitted, aligned or not."""

from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainables.config import HeadFields
from trainables.heads.alignment import ClassifierAlignment, features_of
from trainables.heads.class_means import ClassMeans
from trainables.heads.cosine import cosface_loss
from trainables.heads.linear import TaskHeads, current_task_loss
from trainables.heads.ridge import RidgeHead


class Classifier:
    """What tells classes from features: a head a task, trained, or one that is fitted after it.

    Under a head that is fitted a task is trained with a linear head of its own, over its own
    classes, which is thrown away: `trained_logits` are its scores, and `logits` those of what was
    fitted at the ends of tasks so far. Under others both are the same. `normalise` puts a layer
    normalisation without weights before all of it.
    """

    def __init__(
        self,
        config: HeadFields,
        width: int,
        device: torch.device,
        generator: torch.Generator,
        normalise: bool = False,
    ) -> None:
        self._config = config
        cosine = config.head in ("cosine", "cosface")
        self._none_yet = partial(
            TaskHeads,
            width,
            device,
            generator,
            config.head_init,
            normalise,
            scale=config.head_scale if cosine else None,
        )
        self.trained = self._none_yet()
        self.fitted: ClassMeans | RidgeHead | None = None
        if config.head == "class_means":
            self.fitted = ClassMeans(width, config.head_metric, device)
        elif config.head == "ridge":
            powers = config.head_ridge_powers
            self.fitted = RidgeHead(width, config.head_projection, powers, device, generator)
        self._alignment = ClassifierAlignment(
            config.align_samples,
            config.align_epochs,
            config.align_lr,
            device,
            generator,
            config.align_logit_norm,
            config.align_ridge,
        )

    @property
    def bytes(self) -> int:
        """Size in bytes of what is kept beside trained heads: statistics, and what was fitted."""
        return self._alignment.bytes + (0 if self.fitted is None else self.fitted.bytes)

    def add(self, classes: int) -> list[nn.Parameter]:
        """Opens a head for a new task and returns its parameters."""
        if self.fitted is not None:
            self.trained = self._none_yet()
        return self.trained.add(classes)

    def parameters(self) -> list[nn.Parameter]:
        """Those of the trained heads that there are."""
        return self.trained.parameters()

    def trained_logits(self, features: Tensor) -> Tensor:
        """Scores of features (n, width) that the loss is of: (n, classes seen), or the task's."""
        return self.trained.logits(features)

    def logits(self, features: Tensor) -> Tensor:
        """Scores (n, classes seen) of features (n, width), of classes fitted so far if it is so."""
        if self.fitted is None:
            return self.trained.logits(features)
        return self.fitted.logits(self.trained.prepared(features))

    def loss(self, logits: Tensor, labels: Tensor, classes: range) -> Tensor:
        """Loss of `trained_logits` over the current task's classes."""
        if self.fitted is not None:
            return functional.cross_entropy(logits, labels - classes.start)
        if self._config.head == "cosface":
            scale, margin = self._config.head_scale, self._config.head_margin
            return cosface_loss(logits, labels, classes, scale, margin)
        return current_task_loss(logits, labels, classes)

    @torch.no_grad()
    def end_task(
        self, model: nn.Module, images: Iterable[Tensor], labels: Tensor, classes: range
    ) -> dict[str, float]:
        """Fits what is fitted or aligns what was trained; looks at `images` only if it must.

        `model` gives the features of plain images of the task, whose `labels` cover `classes`.
        Returns metrics: `memory/statistics_bytes` where anything is kept. FloatingPointError if a
        feature, or the loss of the alignment, is not finite.
        """
        recorded: dict[str, float] = {}
        if self.fitted is not None:
            features = self.trained.prepared(features_of(model, images))
            if not bool(torch.isfinite(features).all()):
                raise FloatingPointError(
                    "features that a head is fitted to must be finite, but they are not; "
                    "a smaller optim.lr may help."
                )
            recorded |= self.fitted.fit(features, labels, classes)
            self.trained = self._none_yet()
        elif self._config.align:
            features = self.trained.prepared(features_of(model, images))
            self._alignment.remember(features, labels, classes)
            with torch.enable_grad():
                self._alignment.align(self.trained)
        else:
            return {}
        return recorded | {"memory/statistics_bytes": float(self.bytes)}

    def state_dict(self) -> dict[str, Any]:
        """Trained heads, and what is kept of the classes."""
        state = self.trained.state_dict()
        if self.fitted is not None:
            state["fitted"] = self.fitted.state_dict()
        if self._config.align:
            state["alignment"] = self._alignment.state_dict()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over what `state_dict` gave."""
        self.trained.load_state_dict(state)
        if self.fitted is not None:
            self.fitted.load_state_dict(state["fitted"])
        if self._config.align:
            self._alignment.load_state_dict(state["alignment"])
