"""Method: how a study chose its settings, by protocol, sampler, pruner, budget and seeds."""

from collections.abc import Mapping, Sequence
from typing import Any

from study.ledger import WHOLE_STREAM, StudyRecords, protocol
from study.report.section import Block, Bullets, Findings, Section

TITLE = "Method"


def section(findings: Findings) -> Section:
    """The method, one fact a line."""
    lines = method_lines(findings.study)
    blocks: tuple[Block, ...] = (Bullets(lines),) if lines else ()
    return Section(TITLE, blocks, {"method": lines})


def method_lines(study: StudyRecords) -> list[str]:
    """What a reader must know of how settings were chosen and confirmed, one fact a line."""
    spec = study.study.spec
    transfer = protocol(spec).get("protocol") == "transfer"
    seeds = _seeds_text(spec.get("seeds") or (), transfer)
    if study.cells and not any(cell.search for cell in study.cells):
        nothing = "Nothing was searched: every cell ran with its settings as they are given."
        return [nothing, f"Every cell was trained on the seeds {seeds}."] if seeds else [nothing]
    others = ", not on that of the search" if transfer else ""
    confirmed = f"Each chosen setting is trained again on the seeds {seeds}{others}."
    lines = [
        f"Tuning protocol: {_protocol_text(spec)}",
        _comparison_text(spec),
        _objective_text(spec),
        f"Sampler: {spec['sampler']}.{_starts(spec)}" if "sampler" in spec else "",
        _pruner_text(spec),
        _budget_text(spec),
        confirmed if seeds else "",
    ]
    return [line for line in lines if line]


def _seeds_text(seeds: Sequence[int] | Mapping[str, Any], transfer: bool) -> str:
    """The seeds of confirmations: those listed, or how many come in rounds."""
    if not isinstance(seeds, Mapping):
        return _listed(seeds[1 if transfer else 0 :])
    begin = 1 if transfer else 0
    first, most = begin + seeds["first"], begin + seeds["at_most"]
    return f"{_listed([*range(begin, first)])}, and up to {most - 1} while a contrast is undecided"


def _protocol_text(spec: Mapping[str, Any]) -> str:
    search = protocol(spec)
    name = search.get("protocol", WHOLE_STREAM)
    if name == "first_k_tasks":
        return (
            f"first_k_tasks. Settings are chosen on validation images of the first "
            f"{search['first_tasks']} tasks only, as a continual learner must: search trials end "
            f"there. Confirmations learn all tasks."
        )
    if name == "transfer":
        on = "; ".join(
            _listed([f"{key}={value}" for key, value in data.items()])
            for data in search.get("confirm_on") or ()
        )
        seeds = spec.get("seeds") or ()
        first = 0 if isinstance(seeds, Mapping) else _listed(seeds[:1])
        return (
            f"transfer. Settings are chosen on validation images of the class order of seed "
            f"{first} and confirmed on other class orders"
            + (f", and on other data: {on}." if on else ".")
        )
    return (
        "whole_stream. Settings are chosen on validation images of every task of the sequence, "
        "which a continual learner would not have in advance."
    )


def _comparison_text(spec: Mapping[str, Any]) -> str:
    if not protocol(spec).get("compare"):
        return ""
    return "Beside it every cell was searched by whole_stream as well, for the same seeds."


def _objective_text(spec: Mapping[str, Any]) -> str:
    objective = spec.get("objective")
    if not isinstance(objective, Mapping) or not objective:
        return ""
    words = {"max": "more", "min": "less"}
    metrics = "; ".join(
        f"{metric} ({words.get(mode, mode)} is better)" for metric, mode in objective.items()
    )
    if len(objective) == 1:
        return f"Objective: {metrics}."
    return (
        f"Objectives: {metrics}. Every setting that no other outdoes in all of them is confirmed; "
        f"the tables of cells show the one that is best in the first."
    )


def _starts(spec: Mapping[str, Any]) -> str:
    search = protocol(spec)
    first = ["the settings that hold without a search"] if search.get("defaults_first") else []
    if search.get("warm_start"):
        first.append(f"the best of the study {search['warm_start']}")
    return f" Tried before it is asked: {', then '.join(first)}." if first else ""


def _pruner_text(spec: Mapping[str, Any]) -> str:
    pruner = spec.get("pruner")
    if not isinstance(pruner, Mapping):
        return ""
    if pruner.get("kind") == "none":
        return "Pruner: none, every search trial sees all tasks of the search."
    criterion = str(pruner.get("criterion", "objective"))
    if criterion == "accuracy_minus_forgetting":
        weight = 1 if pruner.get("forgetting_weight") is None else pruner["forgetting_weight"]
        criterion = f"accuracy minus {weight:g} × forgetting"
    return (
        f"Pruner: {pruner.get('kind')}, within a cell; after {pruner.get('first_rung')} tasks, and "
        f"then at every {pruner.get('reduction')} times as many, the best 1/"
        f"{pruner.get('reduction')} go on, judged by: {criterion.replace('_', ' ')}."
    )


def _budget_text(spec: Mapping[str, Any]) -> str:
    if "trials" not in spec:
        return ""
    budget = spec.get("budget") or {}
    limits = {"gpu_hours": "GPU hours", "wall_hours": "hours"}
    more = [f"{budget[key]:g} {word}" for key, word in limits.items() if budget.get(key)]
    cut = f", fewer where {' or '.join(more)} were used up first" if more else ""
    return f"Budget: up to {spec['trials']} search trials a cell{cut}."


def _listed(values: Any) -> str:
    return ", ".join(map(str, values)) if isinstance(values, list | tuple) else ""
