"""What may be searched for sequential fine-tuning."""

from optuna.distributions import BaseDistribution, FloatDistribution

SPACE: dict[str, BaseDistribution] = {
    "optim.lr": FloatDistribution(1e-5, 5e-4, log=True),
}
