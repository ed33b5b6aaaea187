"""What may be searched for the nearest class mean, which trains nothing."""

from optuna.distributions import BaseDistribution, CategoricalDistribution

SPACE: dict[str, BaseDistribution] = {
    "method.metric": CategoricalDistribution(("cosine", "euclidean")),
}
