"""Made-up studies through `look`: how often they err, and how many seeds they take.

`python -m tests.study.evidence.made_up_studies [errors|seeds]`
"""

import sys
from dataclasses import dataclass

import numpy as np

from study.evidence.boundaries import Design
from study.evidence.looks import look
from study.evidence.power import seeds_for

LOG_SD = 0.5513
"""Of a log-normal with skewness 2."""


@dataclass(frozen=True)
class Counts:
    """Shares of studies: any higher or lower, any equal, all intervals cover; seeds a contrast."""

    sided: float
    equal: float
    covered: float
    seeds: float


def noise(random: np.random.Generator, shape: tuple[int, ...], errors: str) -> np.ndarray:
    """Mean 0, standard deviation 1."""
    if errors == "normal":
        return random.standard_normal(shape)
    square = LOG_SD**2
    values = random.lognormal(0, LOG_SD, shape) - np.exp(square / 2)
    return np.asarray(values / np.sqrt((np.exp(square) - 1) * np.exp(square)))


def simulate(design: Design, truth: float, errors: str, studies: int, sd: float = 1.0) -> Counts:
    """Studies with margin 1, differences of mean `truth` and deviation `sd` in each contrast.

    Errors `one_arm` are log-normal in the first arm and absent in the second.
    """
    random = np.random.default_rng(17)
    shape = (studies, design.contrasts, design.at_most)
    first = truth + noise(random, shape, errors) * (sd if errors == "one_arm" else sd / 2**0.5)
    second = np.zeros(shape) if errors == "one_arm" else noise(random, shape, errors) * sd / 2**0.5
    order = tuple(range(design.at_most))
    sided = equal = covered = seeds = 0
    for ours, theirs in zip(first.tolist(), second.tolist(), strict=True):
        looks = []
        for a, b in zip(ours, theirs, strict=True):
            pairs = design.first
            while True:
                seen = look(
                    "c", dict(enumerate(a[:pairs])), dict(enumerate(b[:pairs])), design, 1.0, order
                )
                if not seen.next_seeds:
                    break
                pairs += len(seen.next_seeds)
            looks.append(seen)
            seeds += pairs
        sided += any(seen.verdict in ("higher", "lower") for seen in looks)
        equal += any(seen.verdict == "equal" for seen in looks)
        covered += all(seen.low <= truth <= seen.high for seen in looks)
    return Counts(
        sided / studies,
        equal / studies,
        covered / studies,
        seeds / studies / design.contrasts,
    )


def spread(design: Design, truth: float) -> float:
    """The deviation at which a study errs most.

    At a truth of 0 it is 1 margin, so that studies go on. At the margin the interval of the last
    look is ±0.7 margins wide: narrower ones end as higher, wider ones never as equal.
    """
    pairs = design.at_most
    return 0.7 * pairs**0.5 / design.critical(pairs) if truth else 1.0


def main(what: str) -> str:
    """The table of `errors` or of `seeds`."""
    lines = []
    if what == "seeds":
        fixed = seeds_for(1.0, 1.0)
        lines.append(f"fixed design of 80 % power at the margin: {fixed} seeds")
        for truth in (0.0, 0.5, 1.0, 2.0):
            lines.append(f"{truth} margins: {simulate(Design(3, 15), truth, 'normal', 2000)}")
        return "\n".join(lines)
    for contrasts in (1, 2, 6, 20):
        for design in (Design(8, 8, contrasts), Design(3, 8, contrasts)):
            for errors in ("normal", "lognormal", "one_arm"):
                for truth in (0.0,) if errors == "one_arm" else (0.0, 1.0, -1.0):
                    counts = simulate(design, truth, errors, 2000, spread(design, truth))
                    lines.append(f"{contrasts} {design.first}-8 {errors} {truth:+}: {counts}")
                    sys.stdout.write(lines[-1] + "\n")
                    sys.stdout.flush()
    return f"{len(lines)} settings"


if __name__ == "__main__":
    sys.stdout.write(main(sys.argv[1]) + "\n")
