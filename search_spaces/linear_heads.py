"""What may be searched for linear heads."""

from optuna.distributions import BaseDistribution, FloatDistribution

SPACE: dict[str, BaseDistribution] = {
    "optim.head_lr": FloatDistribution(1e-3, 3e-1, log=True),
}
