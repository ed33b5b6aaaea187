"""What may be searched for LoRA-DRS: rank, the space's share, the triplet loss, and the rate."""

from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution

SPACE: dict[str, BaseDistribution] = {
    "method.rank": IntDistribution(2, 16, log=True),
    "method.share": FloatDistribution(0.9, 0.999),
    "method.triplet": FloatDistribution(0.01, 1.0, log=True),
    "optim.lr": FloatDistribution(1e-4, 1e-2, log=True),
}
