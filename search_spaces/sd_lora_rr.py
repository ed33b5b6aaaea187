"""What may be searched for SD-LoRA-RR: not the rank, which the schedule of method.rank_steps is."""

from optuna.distributions import BaseDistribution, FloatDistribution

SPACE: dict[str, BaseDistribution] = {
    "optim.lr": FloatDistribution(3e-4, 1e-2, log=True),
    "optim.alpha_lr": FloatDistribution(3e-4, 1e-1, log=True),
}
