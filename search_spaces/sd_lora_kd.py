"""What may be searched for SD-LoRA-KD."""

from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution

SPACE: dict[str, BaseDistribution] = {
    "method.rank": IntDistribution(2, 16, log=True),
    "method.tau": FloatDistribution(1e-4, 1e-1, log=True),
    "optim.lr": FloatDistribution(3e-4, 1e-2, log=True),
    "optim.alpha_lr": FloatDistribution(3e-4, 1e-1, log=True),
}
