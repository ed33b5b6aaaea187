"""What may be searched for L2P; its heads learn at a rate of their own."""

from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution

SPACE: dict[str, BaseDistribution] = {
    "method.length": IntDistribution(1, 10, log=True),
    "method.pull": FloatDistribution(1e-2, 1.0, log=True),
    "optim.prompt_lr": FloatDistribution(3e-4, 1e-1, log=True),
}
