"""Made-up studies of what an engine can do more: protocols, fronts, failures, sessions."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from optuna.distributions import IntDistribution

from study.ledger import Record, records
from tests.study.histories import START, facts, ranges
from tests.study.report.ledgers import OFFSETS

OBJECTIVE = {"val/accuracy": "max", "memory/subspace_bytes": "min"}
SPACE = ranges({"method.rank": IntDistribution(2, 16)})
SEARCH = {"space": "all", "protocol": "whole_stream", "compare": False, "defaults_first": True}
PRUNER = {"kind": "asha", "reduction": 3, "first_rung": 3, "criterion": "accuracy"}
TASKS = 10
RANKS = (2, 4, 8, 12, 16)
FRONT = (8, 4, 2)
"""Ranks that no other outdoes: above 8 there is more memory and no more accuracy."""
STUDY_RUN, CELL_RUN = "engine · 1970-01-12 13:46 UTC", "inflora · 10 tasks"
"""The names of their runs in MLflow."""


@dataclasses.dataclass
class Script:
    """Writes records by their makers, one second apart, from a moment on."""

    now: float = START
    records: list[Record] = dataclasses.field(default_factory=list)

    def add(self, kind: str, **fields: Any) -> None:
        """Writes the next record, made of the fields that the maker of its kind takes."""
        self.now += 1
        self.records.append({**getattr(records, kind)(**fields), "time": self.now})

    def open(self, kind: str = "study", **changes: Any) -> None:
        """Begins a session; `changes` are of the spec."""
        spec = {
            "name": "engine",
            "search": SEARCH,
            "objective": OBJECTIVE,
            "sampler": "nsga2",
            "pruner": PRUNER,
            "trials": len(RANKS),
            "budget": {"gpu_hours": 2.0, "wall_hours": None},
            "seeds": [0, 1, 2],
            "resources": {"cpu": 1, "gpu": 0.5},
            **changes,
        }
        first = {"name": "engine", "question": "What does it cost?"} if kind == "study" else {}
        self.add(kind, facts=facts(spec, chance=0.01), **first)

    def cell(self, key: Mapping[str, Any], **fields: Any) -> str:
        """Announces a cell and returns its id."""
        name = ",".join(f"{part}={value}" for part, value in key.items())
        about = {"fixed": {"data.name": "icons"}, "search": SPACE, "seeds": [0, 1, 2]}
        sizes = {"tasks": TASKS, "search_tasks": TASKS}
        self.add("cell", cell=name, key=key, **{**about, **sizes, **fields})
        return name

    def trial(
        self,
        cell: str,
        role: str,
        rank: int,
        level: float,
        seed: int = 0,
        tasks: int = TASKS,
        planned: int | None = None,
    ) -> str:
        """Writes a trial that reaches the accuracy `level`, without its end.

        It sees `tasks` of the `planned` ones; all of them by default.
        """
        name = f"{cell}-{role}-{rank}-{seed}"
        searched = {"method.rank": rank}
        key = next(record["key"] for record in self.records if record.get("cell") == cell)
        about = {"params": {**key, **searched, "seed": seed}, "searched": searched, "seed": seed}
        self.add("trial", trial=name, cell=cell, role=role, tasks=planned or tasks, **about)
        for task in range(1, tasks + 1):
            self.task(name, task, rank, level, "val" if role == "search" else "test")
        return name

    def task(self, trial: str, task: int, rank: int, level: float, split: str = "val") -> None:
        """Writes what a trial measured after a task."""
        metrics = {
            f"{split}/accuracy": level,
            f"{split}/forgetting": 0.1 * task / TASKS,
            "memory/subspace_bytes": 1e5 * rank * task / TASKS,
            "memory/branch_bytes": 1e6,
            "memory/peak_device_bytes": 2e9,
            "memory/checkpoint_bytes": 2e6,
            "time/train_seconds": 0.8,
        }
        self.add("task", trial=trial, task=task, metrics=metrics, accuracy_row=[level] * task)

    def end(self, trial: str, status: str = "completed", **more: Any) -> None:
        """Ends a trial."""
        self.add("end", trial=trial, status=status, **more)

    def win(self, cell: str, rank: int, value: float = 0.6) -> None:
        """Names the winner of a cell."""
        objective = "val/accuracy"
        about = {"value": value, "objective": objective, "values": {objective: value}}
        trial = f"{cell}-search-{rank}-0"
        self.add("winner", cell=cell, trial=trial, searched={"method.rank": rank}, **about)

    def front(self, cell: str, levels: Mapping[int, float]) -> None:
        """Names the Pareto front of a cell: accuracies by rank, whose bytes are those of `task`."""
        points = [
            (
                f"{cell}-search-{rank}-0",
                {"method.rank": rank},
                {"val/accuracy": level, "memory/subspace_bytes": 1e5 * rank},
            )
            for rank, level in levels.items()
        ]
        self.add("front", cell=cell, points=points)

    def confirm(self, cell: str, rank: int, level: float, seeds: Sequence[int] = (0, 1, 2)) -> None:
        """Confirms a setting on all seeds."""
        for seed in seeds:
            self.end(self.trial(cell, "confirm", rank, level + OFFSETS[seed], seed))

    def finish(self, status: str = "completed", wall: float = 50.0) -> list[Record]:
        """Ends the session and returns all records."""
        self.add("finished", status=status, wall_seconds=wall)
        return self.records


def level(rank: int) -> float:
    """The accuracy a rank reaches: the more the better, up to 8."""
    return 0.5 + 0.02 * min(rank, 8)


def several_objectives(methods: Sequence[str] = ("inflora",)) -> list[Record]:
    """A study with two objectives; among its trials one of each kind of failure."""
    script = Script()
    script.open()
    estimate = {"trials": 14, "trial_hours": 0.01, "gpu_hours": 0.1, "wall_hours": 0.05}
    sizes = {"storage_bytes": 3e9, "device_bytes": 1.5e9, "source": "a probe of one task"}
    script.add("estimate", **estimate, **sizes)
    for method in methods:
        cell = script.cell({"method.name": method, "data.tasks": TASKS})
        for rank in RANKS:
            script.end(script.trial(cell, "search", rank, level(rank)), retries=int(rank == 2))
        script.end(script.trial(cell, "search", 3, 0.1, tasks=2), "pruned")
        lost = {"status": "failed", "error": "FloatingPointError: loss is NaN at task 4, step 17"}
        script.end(script.trial(cell, "search", 5, 0.4, tasks=3), reason="diverged", **lost)
        full = {"status": "failed", "error": "OutOfMemoryError: CUDA out of memory"}
        script.end(script.trial(cell, "search", 64, 0.4, tasks=0), reason="out_of_memory", **full)
        script.win(cell, FRONT[0])
        script.front(cell, {rank: level(rank) for rank in FRONT})
        for rank in FRONT:
            script.confirm(cell, rank, level(rank) - 0.02)
    return script.finish()


def compared_protocols(costs: Mapping[int, float] = {10: 0.03, 5: 0.0}) -> list[Record]:
    """first_k_tasks beside whole_stream; `costs` by number of tasks, wobbling over the seeds."""
    script = Script()
    search = {**SEARCH, "protocol": "first_k_tasks", "first_tasks": 3, "compare": True}
    script.open(search=search, objective={"val/accuracy": "max"}, sampler="tpe")
    for tasks, cost in costs.items():
        for name in ("first_k_tasks", "whole_stream"):
            key = {"method.name": "inflora", "data.tasks": tasks, "search.protocol": name}
            seen = 3 if name == "first_k_tasks" else tasks
            cell = script.cell(key, tasks=tasks, search_tasks=seen)
            script.end(script.trial(cell, "search", 4, 0.9, tasks=seen))
            script.win(cell, 4, value=0.9)
            for seed in (0, 1, 2):
                lost = cost + 0.001 * (seed - 1) if name == "first_k_tasks" else 0.0
                reached = 0.6 + OFFSETS[seed] - lost
                script.end(script.trial(cell, "confirm", 4, reached, seed, tasks))
    return script.finish()


def transferred() -> list[Record]:
    """A study with settings found on icons and confirmed on gaussian too."""
    script = Script()
    search = {**SEARCH, "protocol": "transfer", "confirm_on": [{"data.name": "gaussian"}]}
    script.open(search=search, objective={"val/accuracy": "max"})
    key = {"method.name": "inflora", "data.tasks": TASKS}
    home = script.cell(key, seeds=[1, 2])
    tuned = {"data.name": "gaussian", "search.tuned_on": "data.name=icons"}
    away = script.cell({**key, **tuned}, seeds=[1, 2], tuned_in=home)
    script.end(script.trial(home, "search", 4, 0.7))
    for cell, reached in ((home, 0.65), (away, 0.45)):
        script.win(cell, 4, 0.7)
        script.confirm(cell, 4, reached, (1, 2))
    return script.finish()


def resumed(killed: bool = False, gap: float = 5000.0) -> list[Record]:
    """A study stopped, or killed, within a search trial and resumed `gap` seconds later."""
    script = Script()
    script.open(seeds=[0, 1], objective={"val/accuracy": "max"})
    cell = script.cell({"method.name": "inflora", "data.tasks": TASKS})
    trial = script.trial(cell, "search", 4, 0.6, tasks=4, planned=TASKS)
    if not killed:
        script.end(trial, "interrupted")
        script.finish("interrupted", wall=9.0)
    script.now += gap
    script.open("resumed", seeds=[0, 1, 2], objective={"val/accuracy": "max"})
    script.records[-1] |= {"commit": "def", "host": "other"}
    script.add("continued", trial=trial, from_task=4)
    for task in range(5, TASKS + 1):
        script.task(trial, task, 4, 0.6)
    script.end(trial)
    script.win(cell, 4)
    script.confirm(cell, 4, 0.55)
    return script.finish(wall=50.0)
