"""What may be searched for averaged LoRA."""

from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution

SPACE: dict[str, BaseDistribution] = {
    "method.rank": IntDistribution(2, 16, log=True),
    "optim.lr": FloatDistribution(3e-4, 1e-2, log=True),
}
