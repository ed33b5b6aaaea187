"""All that a trial depends on, as frozen values and as flat keys; nothing here imports torch."""

from trainables.config import catalog
from trainables.config.backbone import BackboneConfig
from trainables.config.data import DataConfig, check_share_unread, validation_images
from trainables.config.evaluation import EvaluationConfig
from trainables.config.heads import HeadFields
from trainables.config.optim import OptimConfig
from trainables.config.presets import expand as published_settings
from trainables.config.presets import published_seeds
from trainables.config.trial import (
    CAME_LATER,
    Params,
    PromptingConfig,
    TrialConfig,
    UpdatingConfig,
    as_before,
    known_keys,
)

__all__ = [
    "CAME_LATER",
    "BackboneConfig",
    "DataConfig",
    "EvaluationConfig",
    "HeadFields",
    "OptimConfig",
    "Params",
    "PromptingConfig",
    "TrialConfig",
    "UpdatingConfig",
    "as_before",
    "catalog",
    "check_share_unread",
    "known_keys",
    "published_seeds",
    "published_settings",
    "validation_images",
]
