"""What may be searched for RanPAC: the branch of the first task; λ is chosen by the method."""

from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution

SPACE: dict[str, BaseDistribution] = {
    "method.rank": IntDistribution(2, 16, log=True),
    "optim.lr": FloatDistribution(3e-4, 1e-2, log=True),
}
