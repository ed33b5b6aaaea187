"""What the options of study/run.py do, each with a function here.

Heavy modules are imported where they are needed, so that mistakes are answered at once.
"""

import argparse
import functools
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

from study.option_rules import SPLIT, check_options
from study.planning import Plan, make_plan
from study.spec import StudySpec
from study.terminal import say

DEFAULT = "quickstart"
RESULTS = "results"
# Where the cluster files put the project, below the home folder.
PROJECT_FOLDER = "lrcs"
STORAGE_VARIABLE = "LRCS_STORAGE"


def prepared(options: argparse.Namespace) -> Callable[[], int]:
    """Does what is quick, and returns what is left to do, which returns the exit code.

    Raises:
        ValueError: for a mistake in the command or the study file, with the message for the
            person; what is returned raises only MistakeError for a mistake.
    """
    check_options(options)
    if options.list:
        return _said(_studies())
    if options.schema:
        from study.schema import study_schema

        return _said(json.dumps(study_schema(), indent=2, ensure_ascii=False))
    if options.compare:
        return _compare(*options.compare)
    if options.report is not None:
        return _report(options)
    if options.resume is not None:
        return _resume(options)
    if options.replay is not None:
        return _replay(options)
    plan = _plan(options)
    if options.validate:
        from study.description import describe

        return _said("\n".join(describe(plan)))
    if options.prepare:
        return _prepare(plan)
    return _run(plan, options)


def _run(plan: Plan, options: argparse.Namespace) -> Callable[[], int]:
    """Runs a study, or one configuration, or says what it would cost."""
    from study.preparation import data_splits, pinned

    splits = data_splits(plan) if options.probe or not options.plan else {}
    plan = pinned(plan, {name: one.sha256 for name, one in splits.items()})
    estimate = None
    if options.plan or options.probe or options.past:
        from study.plan_table import show_forecast

        estimate = show_forecast(plan, options.past, options.probe, options.price)
    if options.plan:
        return _done
    if options.once:
        from study.once import run_once, single_trial

        single_trial(plan)
        return functools.partial(run_once, plan, _output_folder(options.output, plan.spec), splits)
    output = _output_folder(options.output, plan.spec)
    from study.conduct import conduct

    return functools.partial(conduct, plan, output, splits, estimate)


def _resume(options: argparse.Namespace) -> Callable[[], int]:
    """Goes on with a study, extended by --set."""
    from study.restore import find_study

    output = find_study(options.resume, _roots(options))
    from study.conduct import resume

    return functools.partial(resume, output, options.set)


def _report(options: argparse.Namespace) -> Callable[[], int]:
    from study.reporting import report_again
    from study.restore import find_study

    output = find_study(options.report, _roots(options), "--report")
    return functools.partial(report_again, output, options.output)


def _replay(options: argparse.Namespace) -> Callable[[], int]:
    """Writes the records of a study to MLflow."""
    from study.mlflow_links import default_uri
    from study.restore import find_study

    output = find_study(options.replay, _roots(options), "--replay")
    uri = options.tracking_uri or default_uri(output)

    def work() -> int:
        from study.ledger_writer import replay

        records, problem = replay(output, uri)
        if problem is None:
            say(f"{records} records of {output} are in {uri}.")
        else:
            say(f"error: {problem}", error=True)
        return 0 if problem is None else 1

    return work


def _roots(options: argparse.Namespace) -> list[Path]:
    """The folders in which --resume, --report and --replay look for a study."""
    roots = [*shared_folder(), Path(RESULTS)]
    shipped = _shipped().get(options.resume or options.report or options.replay)
    if shipped is not None and (storage := StudySpec.load(shipped).storage) is not None:
        roots.append(Path(storage))
    return roots + [
        Path(one.partition("=")[2]) for one in options.set if one.startswith("storage=/")
    ]


def _compare(first: Path, second: Path) -> Callable[[], int]:
    from rich.console import Console

    from study.comparing import show_comparison

    show_comparison(first, second, Console())
    return _done


def _prepare(plan: Plan) -> Callable[[], int]:
    from study.preparation import prepare_all

    try:
        for line in prepare_all(plan):
            say(line)
    except OSError as error:
        raise ValueError(f"the data cannot be prepared: {error}.") from error
    return _done


def _plan(options: argparse.Namespace) -> Plan:
    """Reads and checks the study file."""
    shipped = _shipped()
    wanted = options.file or DEFAULT
    path = shipped.get(wanted, Path(wanted))
    try:
        there = path.exists()
        # On a cluster's head, where `ray submit` works in the home folder.
        mounted = Path.home() / PROJECT_FOLDER / path
        if not there and not path.is_absolute() and mounted.is_file():
            path, there = mounted, True
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror or error}.") from error
    if not there:
        hint = SPLIT if options.alone else ""
        raise ValueError(
            f"{path}: there is no such file; give the path of a study file or one of "
            f"{sorted(shipped)}.{hint}"
        )
    # Whatever is not searched has its default.
    defaults = ["search=none"] if options.once else []
    return make_plan(StudySpec.load(path, [*options.set, *defaults]))


def _shipped() -> dict[str, Path]:
    """The studies that come along, by name."""
    folder = Path(__file__).parent / "specs"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def _studies() -> str:
    """The studies that come along, with their questions."""
    from study import yaml_text

    lines = []
    for name, path in _shipped().items():
        question = yaml_text.parse(path.read_text(encoding="utf-8"))["question"]
        lines.append(f"{name}: {' '.join(question.split())}\n    {path}")
    return "\n".join(lines)


def _output_folder(wanted: Path | None, spec: StudySpec) -> Path:
    """Makes the folder a study writes to: by default a new one in `storage`, or in results.

    Raises:
        ValueError: if it holds something already or cannot be made.
    """
    name = f"{spec.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    (default,) = shared_folder() or (Path(RESULTS),)
    output = wanted or Path(spec.storage or default) / name
    try:
        output.mkdir(parents=True, exist_ok=True)
        if any(output.iterdir()):
            raise ValueError(f"--output must be a new or an empty folder, but {output} is not.")
    except OSError as error:
        raise ValueError(f"--output: {output} cannot be used: {error.strerror}.") from error
    return output


def shared_folder() -> tuple[Path, ...]:
    """The folder of studies that LRCS_STORAGE gives, which all nodes of a cluster share, if set.

    Raises:
        ValueError: if it is no absolute path.
    """
    named = os.environ.get(STORAGE_VARIABLE)
    if not named:
        return ()
    if not Path(named).is_absolute():
        raise ValueError(f"${STORAGE_VARIABLE} must be an absolute path, but got {named!r}.")
    return (Path(named) / "studies",)


def _said(text: str) -> Callable[[], int]:
    say(text)
    return _done


def _done() -> int:
    return 0
