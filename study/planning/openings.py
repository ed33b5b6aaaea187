"""The first records of a session: the study or its resumption, and the cells of the plan."""

import dataclasses
import json
import platform
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, TypeAlias

from study.ledger import History, Record, provenance, records
from study.planning import published, space
from study.planning.cells import Cell, Plan

Sizes: TypeAlias = Mapping[str, Mapping[str, int]]
NO_SIZES: Sizes = MappingProxyType({})


def opening_records(
    plan: Plan, data: Mapping[str, str], sizes: Sizes = NO_SIZES, once: bool = False
) -> list[Record]:
    """The first records of a ledger: the study and its cells.

    `data` holds hashes of splits, `sizes` by hash their numbers of classes and images; `once`:
    the study is of one configuration.
    """
    facts = _facts(plan, data, sizes)
    study = records.study(plan.spec.name, plan.spec.question, facts, once)
    return [study, *(_cell(cell) for cell in plan.cells)]


def resuming_records(
    plan: Plan, data: Mapping[str, str], history: History, sizes: Sizes = NO_SIZES
) -> list[Record]:
    """The first records of a later session: what it runs with, and cells that are new or changed.

    `data` and `sizes` are as in `opening_records`.
    """
    after = History()
    cells = []
    for record in (_cell(cell) for cell in plan.cells):
        # Through JSON, as the history had it.
        after.add({**json.loads(json.dumps(record)), "time": 0.0})
        if after.cells[record["cell"]] != history.cells.get(record["cell"]):
            cells.append(record)
    return [records.resumed(_facts(plan, data, sizes)), *cells]


def _facts(plan: Plan, data: Mapping[str, str], sizes: Sizes) -> records.SessionFacts:
    return records.SessionFacts(
        spec=plan.spec.to_plain(),
        versions=provenance.recorded_versions(),
        commit=provenance.commit(),
        host=platform.node(),
        machine=provenance.machine(),
        chance=plan.chance,
        data=data,
        splits=sizes,
        contrasts=plan.contrasts,
        margin=plan.spec.margin,
    )


def _cell(cell: Cell) -> Record:
    return records.cell(
        cell=cell.id,
        key=cell.key,
        fixed=cell.fixed,
        search={
            key: space.recorded(distribution, cell.conditions.get(key, {}))
            for key, distribution in cell.space.items()
        },
        tasks=cell.tasks,
        search_tasks=cell.search_tasks,
        seeds=cell.seeds,
        tuned_in=cell.tuned_in,
        published=_published(cell),
    )


def _published(cell: Cell) -> list[dict[str, Any]]:
    """Results for the cell's method, data and tasks, where there are any, for the report."""
    settings = {**cell.fixed, **cell.key}.items()
    asked = {key: value for key, value in settings if key.startswith(("method.name", "data."))}
    rows = published.results(asked)
    if not rows:
        return []
    params = cell.config("confirm", {}, cell.seeds[0]).to_params()
    # What is searched has no value yet.
    settled = {key: value for key, value in params.items() if key not in cell.space}
    return [
        {**dataclasses.asdict(row), "departures": list(published.departures(row, settled))}
        for row in rows
    ]
