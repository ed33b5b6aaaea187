"""What may be searched for DualPrompt: the length of a task's prompt, its key's pull, the rate."""

from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution

SPACE: dict[str, BaseDistribution] = {
    "method.e_length": IntDistribution(2, 20, log=True),
    "method.pull": FloatDistribution(1e-2, 1.0, log=True),
    "optim.prompt_lr": FloatDistribution(3e-4, 1e-1, log=True),
}
