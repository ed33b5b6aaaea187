"""What may be searched for CoSO: directions at a time, what is kept of old tasks, and the rate."""

from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution

SPACE: dict[str, BaseDistribution] = {
    "method.rank": IntDistribution(2, 16, log=True),
    "method.epsilon": FloatDistribution(0.8, 0.99),
    "optim.lr": FloatDistribution(1e-5, 1e-3, log=True),
}
