"""Optuna's measure of the importance of searched keys, for trials that are only records.

The only file of the analysis that imports Optuna.
"""

import math
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from study.analysis.trend_models import Array


class PedAnova:
    """Importance by Optuna's PED-ANOVA, of trials that stay the same under changing losses.

    Args:
        settings: of each trial, its searched keys.
        keys: all of them, in the order of the answers.
        texts: what was searched, in the words of the ledger.
        share: part of the trials that counts as the best.
    """

    def __init__(
        self,
        settings: Sequence[Mapping[str, Any]],
        keys: Sequence[str],
        texts: Mapping[str, str],
        share: float,
    ) -> None:
        spaces = {
            key: _distribution(texts.get(key, ""), [one[key] for one in settings if key in one])
            for key in keys
        }
        self._keys = list(keys)
        self._evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=share)
        storage = optuna.storages.InMemoryStorage()
        verbosity = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._study = optuna.create_study(storage=storage)
        optuna.logging.set_verbosity(verbosity)
        for one in settings:
            own = {key: spaces[key] for key in one}
            self._study.add_trial(
                optuna.trial.create_trial(value=0.0, params=dict(one), distributions=own)
            )

    def __call__(self, losses: Array) -> Array:
        """Importance of each key, not normalised; trials with an infinite loss are left out."""
        with warnings.catch_warnings():
            # It warns on every call that a low target is taken as good, which is what is meant.
            warnings.simplefilter("ignore")
            found = optuna.importance.get_param_importances(
                self._study,
                evaluator=self._evaluator,
                params=self._keys,
                target=lambda trial: float(losses[trial.number]),
                normalize=False,
            )
        return np.array([found[key] for key in self._keys])


def _distribution(text: str, seen: Sequence[Any]) -> BaseDistribution:
    """What was searched, from its words in the ledger and from what was tried.

    The words have six digits: ends are moved so that they hold every value that was tried.
    """
    numbers = all(isinstance(one, int | float) and not isinstance(one, bool) for one in seen)
    ends = re.match(r"(\S+) to (\S+?),?(?: |$)", text)
    if not numbers or text.startswith("one of "):
        return CategoricalDistribution(tuple({str(one): one for one in seen}.values()))
    known = [float(one) for one in ends.groups()] if ends else []
    low, high = min(*seen, *known), max(*seen, *known)
    log = "log" in text.split(" when ")[0]
    if all(isinstance(one, int) for one in seen):
        return IntDistribution(math.floor(low), math.ceil(high), log=log)
    return FloatDistribution(float(low), float(high), log=log)
