"""How busy a study keeps 64 GPUs: about 2,000 trials of 36 cells in simulated time.

Eight methods with much to search and one with two settings only, at 20 to 50 tasks, sampler and
pruner as they are by default, five confirmations a cell. Decisions are those of StudySearcher and
CellScheduler, with Optuna's samplers; starting a trial takes no simulated time. See simulator.py.
"""

from tests.benchmarks.row import Row
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
    found = Simulation(plan, SLOTS, curves).run()
    note = (
        f"{found.busy:.2%} busy, {len(found.launched)} trials, {found.makespan:.0f} simulated s, "
        f"{found.decisions / found.deciding_seconds:.0f} decisions/s"
    )
    return [Row("idle share of 64 GPUs over a study", 1 - found.busy, MOST_IDLE, note)]
