"""Every node of a cluster, checked before the first trial of a study."""

import os
import secrets
import shutil
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from study.engine import node_check
from study.engine.node_check import (
    CHECKS,
    SKIP_VARIABLE,
    Expected,
    NodeReport,
    Problem,
    check_and_remember,
)
from study.engine.ray_session import alive_nodes
from study.errors import MistakeError, unknown
from study.ledger import StudyFolder, provenance
from study.planning import Plan
from study.planning.data import data_configs
from study.system import say
from trainables.config import DataConfig

# Decoding images may take long.
SAY_SECONDS = 30.0
WAIT_SECONDS = 0.5
# What a trial keeps in the storage at least: branches and heads of all tasks.
CHECKPOINT_BYTES = 20 * 2**20

Nodes = Mapping[str, Mapping[str, Any]]


def check_nodes(plan: Plan, folder: StudyFolder, stopped: Callable[[], bool]) -> Expected:
    """Checks every node of the cluster; returns what nodes that join later must have.

    The plan is pinned to the splits that the driver knows.

    Raises:
        MistakeError: if anything is wrong anywhere, after a table of it.
        SystemExit: once `stopped`, which is asked twice a second, is true.
    """
    expected = _expected(plan, folder)
    nodes = {_name(node): node for node in alive_nodes()}
    say(f"Checking {len(nodes)} node{'s' if len(nodes) > 1 else ''} of the cluster")
    shutil.rmtree(expected.folder.parent, ignore_errors=True)
    expected.folder.mkdir(parents=True)
    (expected.folder / "driver").write_text(expected.token, encoding="utf-8")
    gpus = _gpus_of_a_trial(plan, nodes)
    sent = {
        name: _send(_expected_of(expected, node, plan.spec.resources.cpu, gpus), node["NodeID"])
        for name, node in nodes.items()
    }
    read = {
        name: _read_back(expected, report, nodes[name]["NodeID"])
        for name, report in _gathered(sent, stopped).items()
    }
    reports = _agreed(read)
    if any(report.problems for report in reports.values()):
        raise _refusal(reports)
    say(f"Every node is ready: {', '.join(sorted(reports))}")
    splits: dict[DataConfig, str] = {}
    for report in reports.values():
        splits |= report.splits
    data = tuple(replace(config, split_sha256=splits.get(config)) for config in expected.data)
    warnings = dict.fromkeys(text for report in reports.values() for text in report.warnings)
    return replace(expected, data=data, gpus=1 if gpus else 0, warnings=tuple(warnings))


def _expected(plan: Plan, folder: StudyFolder) -> Expected:
    asked = os.environ.get(SKIP_VARIABLE, "")
    skip = frozenset(check.strip() for check in asked.split(",") if check.strip())
    if extra := sorted(skip.difference(CHECKS)):
        raise MistakeError(unknown(f"check in {SKIP_VARIABLE}", extra[0], CHECKS))
    trials = plan.most_confirmation_trials
    return Expected(
        storage=folder.path.resolve(),
        token=secrets.token_hex(8),
        project=provenance.project_version(),
        packages=provenance.package_versions(),
        data=tuple(data_configs(plan)),
        storage_bytes=max(node_check.LEAST_STORAGE_BYTES, trials * CHECKPOINT_BYTES),
        skip=skip,
    )


def _gpus_of_a_trial(plan: Plan, nodes: Nodes) -> float:
    """GPUs that a node must have to run a trial; with "auto" one, if any node has one."""
    asked = plan.spec.resources.gpu
    if asked != "auto":
        return float(asked)
    return 1.0 if any(node["Resources"].get("GPU", 0) for node in nodes.values()) else 0.0


def _expected_of(expected: Expected, node: Mapping[str, Any], cpu: float, gpus: float) -> Expected:
    """What one node must have: data and GPUs only where trials can run."""
    has = node["Resources"]
    trials = has.get("CPU", 0) >= cpu and has.get("GPU", 0) >= gpus
    return replace(expected, trials=trials, gpus=has.get("GPU", 0) if trials and gpus else 0)


def _send(expected: Expected, node: str) -> Any:
    """Starts the check on a node, beside whatever runs there."""
    here = NodeAffinitySchedulingStrategy(node, soft=False)
    # A process of its own that ends with it: its memory and its environment are nobody else's.
    remote = ray.remote(num_cpus=0, max_retries=0, max_calls=1, scheduling_strategy=here)
    return remote(check_and_remember).remote(expected, node)


def _gathered(sent: Mapping[str, Any], stopped: Callable[[], bool]) -> dict[str, NodeReport]:
    """The reports of all nodes; that of one that failed to report is its failure."""
    names = {reference: name for name, reference in sent.items()}
    waiting, reports = list(names), {}
    said = time.monotonic()
    while waiting:
        done, waiting = ray.wait(waiting, timeout=WAIT_SECONDS)
        for reference in done:
            reports[names[reference]] = _report(reference)
        if stopped():
            for reference in waiting:
                ray.cancel(reference, force=True)
            raise SystemExit(1)
        if waiting and time.monotonic() - said > SAY_SECONDS:
            said = time.monotonic()
            still = ", ".join(names[reference] for reference in waiting)
            say(f"  still checking, and preparing data on: {still}")
    return reports


def _report(reference: Any) -> NodeReport:
    try:
        report: NodeReport = ray.get(reference)
    except ray.exceptions.RayError as error:
        # What was raised there is in the last line of the traceback that Ray hands over.
        lines = [line for line in str(error).strip().splitlines() if line.strip()] or ["no message"]
        missing = "No module named" in str(error)
        mend = (
            f"{node_check.SYNC}; its environment must come first on PATH where `ray start` runs"
            if missing
            else "see the newest files in /tmp/ray/session_latest/logs on that node"
        )
        text = f"the check cannot be run there: {lines[-1].strip()}"
        return NodeReport("", (Problem("project" if missing else "node", text, mend),))
    return report


def _read_back(expected: Expected, report: NodeReport, node: str) -> NodeReport:
    """Adds a problem where the driver does not see what the node has written."""
    checks = {problem.check for problem in report.problems}
    if checks & {"storage", "project", "node"} or "storage" in expected.skip:
        return report
    if node_check.wait_for(expected.folder / node) == expected.token:
        return report
    problem = Problem(
        "storage",
        f"what it writes to {expected.storage} does not come to the machine that drives the study.",
        "mount the same shared storage at that path on both, and not a copy of it",
    )
    return replace(report, problems=(*report.problems, problem))


def _agreed(reports: Mapping[str, NodeReport]) -> dict[str, NodeReport]:
    """Adds a problem to nodes whose data are not what most nodes have."""
    counts: dict[Any, Counter[str]] = {}
    for report in reports.values():
        for config, split in report.splits.items():
            counts.setdefault(config, Counter())[split] += 1
    most = {config: count.most_common(1)[0][0] for config, count in counts.items()}
    found = {}
    for name, report in reports.items():
        extra = tuple(
            Problem(
                "data",
                f"{config.name} must be the same on all nodes (most have the split "
                f"{most[config][:12]}), but here it has {split[:12]}.",
                "copy the files of another node there",
            )
            for config, split in report.splits.items()
            # One that states its split was refused on the node.
            if config.split_sha256 is None and split != most[config]
        )
        found[name] = replace(report, problems=report.problems + extra)
    return found


def _refusal(reports: Mapping[str, NodeReport]) -> MistakeError:
    """Shows what is wrong with each node, and what mends it; the error names those nodes."""
    say("Nodes of the cluster and what is wrong with them:")
    for name, report in sorted(reports.items()):
        say(f"  {name}: {', '.join(problem.check for problem in report.problems) or 'nothing'}")
    for name, report in sorted(reports.items()):
        for problem in report.problems:
            # Lines of their own: a command must be copied whole.
            say(f"{name}, {problem.check}: {problem.text}\n  mend it: {problem.mend}")
    wrong = {name: report.problems for name, report in sorted(reports.items()) if report.problems}
    checks = sorted({problem.check for problems in wrong.values() for problem in problems})
    return MistakeError(
        f"every node must pass the check before a study starts, but {' and '.join(wrong)} "
        f"do{'es' if len(wrong) == 1 else ''} not ({', '.join(checks)}; see above). What is no "
        f"problem for this study is left out with {SKIP_VARIABLE}={','.join(checks)}."
    )


def _name(node: Mapping[str, Any]) -> str:
    """A name for a person: of several nodes on one machine each has its own."""
    address, name = node["NodeManagerAddress"], node["NodeName"]
    host = node["NodeManagerHostname"] if name == address else name
    return f"{host} ({address}, {node['NodeID'][:8]})"
