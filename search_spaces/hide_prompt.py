"""What may be searched for HiDe-Prompt: length, the mix of old prompts, both stages' rates."""

from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution

SPACE: dict[str, BaseDistribution] = {
    "method.length": IntDistribution(2, 20, log=True),
    "method.mix": FloatDistribution(1e-3, 0.3, log=True),
    "method.identity_lr": FloatDistribution(1e-4, 1e-2, log=True),
    "optim.prompt_lr": FloatDistribution(3e-4, 1e-1, log=True),
}
