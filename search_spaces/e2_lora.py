"""What may be searched for E2-LoRA, which has no rank: rates, and the weight of distillation."""

from optuna.distributions import BaseDistribution, FloatDistribution

SPACE: dict[str, BaseDistribution] = {
    "method.distill": FloatDistribution(0.03, 3.0, log=True),
    "optim.lr": FloatDistribution(3e-4, 1e-2, log=True),
}
