"""What may be searched for InfLoRA-b5: the same as for InfLoRA."""

from optuna.distributions import BaseDistribution

from search_spaces import inflora

SPACE: dict[str, BaseDistribution] = dict(inflora.SPACE)
