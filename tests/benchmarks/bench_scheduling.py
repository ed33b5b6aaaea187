"""How busy a study keeps 64 GPUs: about 2,000 trials of 36 cells in simulated time.

Eight methods with much to search and one with two settings only, at 20 to 50 tasks, sampler and
pruner as they are by default, five confirmations a cell. Decisions are those of StudySearch and
Rungs, with Optuna's samplers; starting a trial takes no simulated time. See simulator.py.
"""

from tests.benchmarks.measuring import Row
from tests.benchmarks.simulator import Simulation, recorded, study

SLOTS = 64
TASKS = (20, 30, 40, 50)
TRIALS = 57
SEEDS = 5
MOST_IDLE = 0.02


def rows() -> list[Row]:
    """The share of GPU time in which no trial ran, from the start to the last end."""
    curves = recorded()
    plan = study(list(curves), TASKS, trials=TRIALS, seeds=list(range(SEEDS)))
    outcome = Simulation(plan, SLOTS, curves).run()
    note = (
        f"{outcome.busy:.2%} busy, {len(outcome.launched)} trials, "
        f"{outcome.makespan:.0f} simulated s, "
        f"{outcome.decisions / outcome.deciding_seconds:.0f} decisions/s"
    )
    return [Row("idle share of 64 GPUs over a study", 1 - outcome.busy, MOST_IDLE, note)]
