"""Made-up studies whose reports are kept as snapshots, and small ones for the answers alone."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from study.ledger.ledger import Record
from tests.study.report import engine_ledgers
from tests.study.report.engine_ledgers import FRONT, SEARCH, TASKS, Script
from tests.study.report.ledgers import made_up_study


def methods() -> list[Record]:
    """Methods × tasks with pruning, failures, a published number, and a cell without a winner."""
    records = made_up_study(("inflora", "sd_lora", "sequential", "joint"), (2, 4), layers=2)
    source = {"source": "the logs", "departures": ["optim.epochs is 5, published with 20"]}
    numbers = {"final": 0.7534, "final_std": 0.0022, "anytime": 0.806}
    records[1]["published"] = [{"label": "InfLoRA", **numbers, **source}]
    key = {"method.name": "nearest_mean", "data.tasks": 4}
    cell = {**records[1], "cell": "lost", "key": key, "tasks": 4, "published": []}
    why = {"kind": "failed_cell", "cell": "lost", "error": "none of 4 trials saw all tasks"}
    read_out(records)
    return noisy([*records[:-1], cell, {**why, "time": cell["time"]}, records[-1]])


def read_out(records: list[Record], above: float = 0.2) -> list[Record]:
    """The same study, where confirmations end with a read-out that is `above` their accuracy."""
    roles = {record["trial"]: record for record in records if record["kind"] == "trial"}
    for record in records:
        if record["kind"] == "task" and record["task"] == roles[record["trial"]]["tasks"]:
            metrics, trial = record["metrics"], roles[record["trial"]]
            if trial["role"] == "confirm":
                metrics["test/readout_accuracy"] = metrics["test/accuracy"] + above
                metrics["test/lost/inference"] = 0.3
    return records


def transfer() -> list[Record]:
    """Two objectives: fronts, an estimate, a restart, settings from elsewhere, two protocols."""
    script = Script()
    data = [{"data.name": "gaussian"}]
    search = {**SEARCH, "protocol": "transfer", "compare": True, "confirm_on": data}
    script.open(search=search)
    hours = {"trials": 14, "trial_hours": 0.01, "gpu_hours": 0.1, "wall_hours": 0.05}
    script.add("estimate", storage_bytes=3e9, device_bytes=1.5e9, source="a probe", **hours)
    key = {"method.name": "inflora", "data.tasks": TASKS}
    for name, lost, gain in (("transfer", 0.03, 0.04), ("whole_stream", 0.0, 0.0)):
        own = {**key, "search.protocol": name}
        home = script.cell(own, seeds=[1, 2, 3], search_tasks=2)
        for number in range(22):
            searched(script, home, number, gain)
        tuned = {**own, "data.name": "gaussian", "search.tuned_on": "data.name=icons"}
        away = script.cell(tuned, seeds=[1, 2, 3], tuned_in=home)
        for cell, level in ((home, 0.6), (away, 0.4)):
            script.win(cell, FRONT[0])
            for rank in FRONT:
                script.confirm(cell, rank, level - lost + 0.01 * rank, (1, 2, 3))
        script.front(home, {rank: 0.5 + 0.04 * rank for rank in FRONT})
    script.finish("interrupted")
    script.open("resumed", search=search)
    script.records[-1]["commit"] = "abc-dirty"
    return noisy(script.finish("interrupted"))


def searched(script: Script, cell: str, number: int, gain: float) -> None:
    """A search trial whose rank may matter and whose rate does not; a few fail or are pruned."""
    rank = 2 + number % 8
    name = script.trial(cell, "search", rank, 0.5 + gain * rank, seed=number, tasks=2)
    trial = next(record for record in script.records if record.get("trial") == name)
    trial["searched"] = {"method.rank": rank, "optim.lr": 0.001 * (1 + number * 7 % 24)}
    ends: dict[int, dict[str, Any]] = {
        5: {"status": "failed", "error": "Traceback\nno memory", "reason": "out_of_memory"},
        6: {"status": "failed", "error": "loss is NaN <b>", "reason": "diverged", "retries": 2},
        7: {"status": "pruned"},
    }
    script.end(name, **ends.get(number, {}))


def ranks() -> list[Record]:
    """Ranks × tasks of a method that tracks its subspace; each doubling adds two points."""
    records = of_ranks((2, 8), (3, 6, 10), layers=2)
    records[0]["commit"] = None
    for at, record in enumerate(records):
        if record["kind"] == "task":
            record["metrics"] |= {
                "memory/subspace_bytes": 7e4 * record["task"],
                "memory/branch_bytes": 1e5,
                "subspace/dim_free": 48 - 4 * record["task"],
                "subspace/interference": 1 / record["task"] + 0.05 * math.sin(at),
            }
    return noisy(records)


def noisy(records: list[Record]) -> list[Record]:
    """Every number a little off, so that none of a report's rests on rounding alone."""
    for at, record in enumerate(records):
        if record["kind"] == "task":
            record["metrics"] = {
                key: value if value is None else value * (1 + 0.01 * math.sin(1.7 * at + 7 * place))
                for place, (key, value) in enumerate(record["metrics"].items())
            }
    return records


REPORTS = {study.__name__: study for study in (methods, transfer, ranks)}


def of_ranks(ranks: Sequence[int], tasks: Sequence[int], layers: int = 1) -> list[Record]:
    """InfLoRA with given ranks, which are not searched; each doubling adds two points."""
    keys = [{"method.rank": rank} for rank in ranks]
    records = made_up_study(("inflora",), tasks, keys=keys, layers=layers)
    for at, record in enumerate(records):
        if record["kind"] == "cell":
            rank = record["key"]["method.rank"]
            record["search"] = {"optim.lr": "0.0001 to 0.01 (log)"}
        elif record["kind"] == "task" and "test/accuracy" in record["metrics"]:
            gain = 0.02 + 0.0001 * math.sin(at)
            record["metrics"]["test/accuracy"] += gain * math.log2(rank)
    return records


def with_finals(finals: Mapping[tuple[str, int], Sequence[float]]) -> list[Record]:
    """The study of methods and tasks with these final test accuracies, seed by seed."""
    records = made_up_study(
        methods=tuple(dict.fromkeys(name for name, _ in finals)),
        tasks=tuple(dict.fromkeys(count for _, count in finals)),
    )
    for record in records:
        if record["kind"] == "trial":
            role, params = record["role"], record["params"]
        elif (
            record["kind"] == "task"
            and role == "confirm"
            and record["task"] == params["data.tasks"]
        ):
            values = finals[params["method.name"], params["data.tasks"]]
            record["metrics"]["test/accuracy"] = values[params["seed"]]
    return records


def exchanged(records: list[Record], first: str, second: str) -> list[Record]:
    """The same study with the names of two methods exchanged."""
    text = json.dumps(records).replace(first, "\0").replace(second, first).replace("\0", second)
    exchanged: list[Record] = json.loads(text)
    return exchanged


def without(records: list[Record], gone: Callable[[Record], bool]) -> list[Record]:
    """The same study without the trials whose record says so."""
    lost = {record["trial"] for record in records if record["kind"] == "trial" and gone(record)}
    return [record for record in records if record.get("trial") not in lost]


def without_first(records: list[Record], role: str) -> list[Record]:
    """The same study without its first trial of that role."""
    first = next(record for record in records if record.get("role") == role)
    return without(records, lambda trial: trial is first)


def not_searched(records: list[Record], method: str) -> list[Record]:
    """The same study where the cells of a method had nothing to search."""
    for record in records:
        if record["kind"] == "winner" and f"method.name={method}," in record["cell"]:
            record |= {"searched": {}, "value": None}
    return without(
        records,
        lambda trial: trial["role"] == "search" and trial["params"]["method.name"] == method,
    )


def lost_confirmation() -> list[Record]:
    """A confirmation that failed, so that the mean is over the other seeds."""
    records = engine_ledgers.several_objectives()
    ends = (record for record in records if record["kind"] == "end")
    _, end, *_ = (end for end in ends if "-confirm-8-" in end["trial"])
    end |= {"status": "failed", "reason": "diverged", "error": "loss is NaN"}
    return records


def relaxed() -> list[Record]:
    """Ranks that fall with the task, in a space that is never empty."""
    records = made_up_study(("sd_lora",), (10,))
    for record in records:
        if record["kind"] == "trial":
            record["params"] |= {"method.rank": 30, "method.rank_steps": ["8 from 5"]}
    return records


def one_common_seed() -> list[Record]:
    """The best beside one that shares a seed with it, and one that is worse for certain."""
    records = with_finals(
        {
            ("inflora", 10): SAME,
            ("sd_lora", 10): [0.69, 0.72, 0.685],
            ("sequential", 10): [0.5, 0.53, 0.49],
        }
    )
    return without(
        records, lambda trial: trial["params"]["method.name"] == "sd_lora" and trial["seed"] > 0
    )


def methods_alone() -> list[Record]:
    """Cells with nothing but a method: they are one group without a name."""
    script = Script()
    script.open(objective={"val/accuracy": "max"})
    for place in range(8):
        cell = script.cell({"method.name": f"method {place}"})
        script.win(cell, 4)
        script.confirm(cell, 4, 0.5 + 0.01 * place)
    return script.finish()


def other_packages() -> list[Record]:
    """A study that was gone on with after an update."""
    records = engine_ledgers.resumed()
    later = next(record for record in records if record["kind"] == "resumed")
    later["versions"] = {"torch": "2.14.0"}
    return records


SAME = [0.70, 0.72, 0.69]
FALLING = {("inflora", 10): [0.50, 0.53, 0.51], ("inflora", 50): [0.40, 0.45, 0.46]}
NOISY = {
    (name, count): values
    for name in ("sd_lora", "sequential", "joint")
    for count, values in ((10, [0.6, 0.5, 0.4]), (50, [0.5, 0.55, 0.39]))
}
OTHER_DATA = ({"data.name": "icons", "data.tasks": 5}, {"data.name": "digits", "data.tasks": 10})
ANSWERS: Mapping[str, Callable[[], list[Record]]] = {
    "better": made_up_study,
    "references": lambda: made_up_study(
        ("inflora", "sd_lora", "sequential", "joint", "linear_heads")
    ),
    "only references": lambda: made_up_study(("sequential", "joint"), (10,)),
    "no baseline": lambda: made_up_study(("inflora", "sd_lora"), (10,)),
    "worse than the baseline": lambda: exchanged(
        made_up_study(tasks=(50,)), "inflora", "sequential"
    ),
    "lost in noise": lambda: made_up_study(ripple=0.2),
    "identical": lambda: with_finals(
        {(name, count): SAME for name in ("inflora", "sd_lora") for count in (10, 50)}
    ),
    "open, bounded": lambda: with_finals(
        {("inflora", 10): SAME, ("sd_lora", 10): [0.69, 0.72, 0.695]}
    ),
    # Its p of 0.03 is enough alone; as the least of four it counts as 0.13.
    "change with tasks": lambda: with_finals(FALLING),
    "change among many": lambda: with_finals(FALLING | NOISY),
    "one seed": lambda: made_up_study(tasks=(10,), seeds=(0,)),
    "near chance": lambda: [{**made_up_study()[0], "chance": 0.15}, *made_up_study()[1:]],
    "unconfirmed": lambda: made_up_study(tasks=(10,), seeds=()),
    "under way": lambda: made_up_study(tasks=(10,))[:165],
    "settings": lambda: of_ranks((4, 8), (10,)),
    "many groups": lambda: of_ranks((4, 8), (2, 3, 4, 5)),
    "many groups, one setting": lambda: made_up_study(
        ("inflora",), (2,), keys=[{"data.name": name} for name in "abcd"]
    ),
    "other data": lambda: made_up_study(("inflora",), keys=OTHER_DATA),
    "many groups, identical pairs": lambda: with_finals(
        {
            (name, count): values
            for count in (2, 3, 4, 5)
            for name, values in (
                ("inflora", SAME),
                ("sd_lora", SAME),
                ("sequential", [0.5, 0.53, 0.49]),
            )
        }
    ),
    "one common seed": one_common_seed,
    "lost by correction": lambda: with_finals(
        {(name, 10): values for (name, count), values in NOISY.items() if count == 10}
        | {("inflora", 10): SAME, ("linear_heads", 10): [0.69, 0.712, 0.678]}
    ),
    "one group": methods_alone,
    "relaxed": relaxed,
    "other packages": other_packages,
    "unequal budgets": lambda: without_first(made_up_study(tasks=(10,)), "search"),
    "other seeds": lambda: without_first(made_up_study(tasks=(10,)), "confirm"),
    "one not searched": lambda: not_searched(made_up_study(tasks=(10,)), "sequential"),
    "many exhausted": lambda: of_ranks((8, 9, 10, 11, 12), (10,)),
    "lost confirmation": lost_confirmation,
    "other code": engine_ledgers.resumed,
    "protocols": engine_ledgers.compared_protocols,
    "protocols, one pair": lambda: engine_ledgers.compared_protocols({10: 0.03}),
    "protocols, no cost": lambda: engine_ledgers.compared_protocols({10: 0.0}),
    "transfer": engine_ledgers.transferred,
}
"""Small studies for what the short answer and the warnings say."""
