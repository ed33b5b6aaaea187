"""What may be searched for InfLoRA+CA: as for InfLoRA, and the rate of the alignment."""

from optuna.distributions import BaseDistribution, FloatDistribution

from search_spaces import inflora

SPACE: dict[str, BaseDistribution] = {
    **inflora.SPACE,
    "method.align_lr": FloatDistribution(1e-3, 3e-2, log=True),
}
