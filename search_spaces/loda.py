"""What may be searched for LoDA: rank, how far branches look ahead, the rate."""

from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution

SPACE: dict[str, BaseDistribution] = {
    "method.rank": IntDistribution(2, 32, log=True),
    "method.rho": FloatDistribution(0.01, 1.0, log=True),
    "optim.lr": FloatDistribution(1e-3, 3e-2, log=True),
}
