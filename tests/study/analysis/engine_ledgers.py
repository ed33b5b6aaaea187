"""Made-up studies of what an engine can do more: protocols, fronts, failures, sessions."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from study.ledger import Record
from tests.study.analysis.ledgers import OFFSETS

OBJECTIVE = {"val/accuracy": "max", "memory/subspace_bytes": "min"}
SPACE = {"method.rank": "2 to 16"}
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
    """Writes records one second apart, from a moment on."""

    now: float = 1_000_000.0
    records: list[Record] = dataclasses.field(default_factory=list)

    def add(self, kind: str, **fields: Any) -> None:
        """Writes the next record."""
        self.now += 1
        self.records.append({"kind": kind, "time": self.now, **fields})

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
        opening = {"version": 1, "name": "engine", "question": "What does it cost?"}
        about = {"versions": {"torch": "2.13.0"}, "commit": "abc", "host": "node", "chance": 0.01}
        first = opening if kind == "study" else {}
        self.add(kind, spec=spec, data={}, **first, **about)

    def cell(self, key: Mapping[str, Any], **fields: Any) -> str:
        """Announces a cell and returns its id."""
        name = ",".join(f"{one}={value}" for one, value in key.items())
        more = {"tasks": TASKS, "search_tasks": TASKS, "seeds": [0, 1, 2], "tuned_in": None}
        fixed = {"data.name": "icons"}
        self.add("cell", cell=name, key=dict(key), fixed=fixed, search=SPACE, **(more | fields))
        return name

    def trial(
        self, cell: str, role: str, rank: int, level: float, seed: int = 0, tasks: int = TASKS
    ) -> str:
        """Writes a trial that reaches the accuracy `level`, without its end."""
        name = f"{cell}/{role}/{rank}/{seed}"
        searched = {"method.rank": rank}
        key = next(one["key"] for one in self.records if one.get("cell") == cell)
        params = {**key, **searched, "seed": seed}
        about = {"cell": cell, "role": role, "params": params, "searched": searched}
        self.add("trial", trial=name, seed=seed, tasks=tasks, **about)
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
        told = {"error": None, "reason": None, "retries": 0, **more}
        self.add("end", trial=trial, status=status, **told)

    def win(self, cell: str, rank: int, value: float = 0.6) -> None:
        """Names the winner of a cell."""
        about = {"searched": {"method.rank": rank}, "value": value, "objective": "val/accuracy"}
        self.add("winner", cell=cell, trial=f"{cell}/search/{rank}/0", values={}, **about)

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
        points = [
            {
                "trial": f"{cell}/search/{rank}/0",
                "searched": {"method.rank": rank},
                "values": {"val/accuracy": level(rank), "memory/subspace_bytes": 1e5 * rank},
            }
            for rank in FRONT
        ]
        script.add("front", cell=cell, points=points)
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
    trial = script.trial(cell, "search", 4, 0.6, tasks=4)
    script.records[-5] = {**script.records[-5], "tasks": TASKS}
    if not killed:
        script.end(trial, "interrupted")
        script.finish("interrupted", wall=9.0)
    script.now += gap
    script.open("resumed", seeds=[0, 1, 2], objective={"val/accuracy": "max"})
    script.records[-1] |= {"commit": "def", "host": "other"}
    for task in range(5, TASKS + 1):
        script.task(trial, task, 4, 0.6)
    script.end(trial)
    script.win(cell, 4)
    script.confirm(cell, 4, 0.55)
    return script.finish(wall=50.0)


def kinds(records: Sequence[Record], *wanted: str) -> Iterator[Record]:
    """The records of some kinds."""
    return (one for one in records if one["kind"] in wanted)
