"""What a classifier is as a linear layer, for networks that know nothing of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

THOSE_OF_THE_TRIAL = "those of the trial"
TIMES_LENGTH = "those of the trial times the length of the feature"
PLUS_SQUARE = "those of the trial plus the squared length of the feature"


@dataclass(frozen=True)
class LinearForm:
    """A linear layer that tells the same classes as a classifier.

    `weight` (classes, features) and `bias` (classes,), `scores` says how its scores are to the
    trial's. It reads relu(fW) of a `projection` W (width, features), None: features themselves.
    """

    weight: Tensor
    bias: Tensor
    scores: str
    projection: Tensor | None = None


def linear_form(state: Mapping[str, Any], params: Mapping[str, Any]) -> LinearForm:
    """The linear form of what a method's state holds, under its flat `params`.

    The length of a feature is the same for all classes: of cosines and distances only what
    differs between classes is left.
    """
    heads = state.get("heads", {})
    if "weights" not in heads:  # means and nothing else
        return _of_means(state["means"], str(params["method.metric"]))
    fitted = heads.get("fitted")
    if fitted is None:
        return _of_trained(heads, params)
    if "means" in fitted:
        return _of_means(fitted["means"], str(params["method.head_metric"]))
    weight: Tensor = fitted["weight"].T
    none = torch.zeros(len(weight))
    return LinearForm(weight, none, THOSE_OF_THE_TRIAL, fitted["projection"])


def _of_trained(heads: Mapping[str, Any], params: Mapping[str, Any]) -> LinearForm:
    weight = torch.cat(heads["weights"])
    if heads["biases"]:
        return LinearForm(weight, torch.cat(heads["biases"]), THOSE_OF_THE_TRIAL)
    unit = float(params["method.head_scale"]) * functional.normalize(weight)
    return LinearForm(unit, torch.zeros(len(unit)), TIMES_LENGTH)


def _of_means(means: Tensor, metric: str) -> LinearForm:
    if metric == "cosine":
        unit = functional.normalize(means)
        return LinearForm(unit, torch.zeros(len(unit)), TIMES_LENGTH)
    # −‖f − m‖² = 2 f·m − ‖m‖² − ‖f‖²
    return LinearForm(2 * means, -means.square().sum(1), PLUS_SQUARE)
