"""What may be searched for CODA-Prompt: length, the weight of its penalty, the rate of prompts."""

from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution

SPACE: dict[str, BaseDistribution] = {
    "method.length": IntDistribution(2, 16, step=2),
    "method.orthogonality": FloatDistribution(1e-3, 1.0, log=True),
    "optim.prompt_lr": FloatDistribution(3e-4, 1e-1, log=True),
}
