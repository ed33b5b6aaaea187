"""What may be searched for InfLoRA."""

from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution

SPACE: dict[str, BaseDistribution] = {
    "method.rank": IntDistribution(2, 16, log=True),
    "method.epsilon": FloatDistribution(0.8, 0.99),
    "optim.lr": FloatDistribution(3e-4, 1e-2, log=True),
}
