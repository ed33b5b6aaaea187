"""What the options of study/run.py do, each with a function here.

Heavy modules are imported where they are needed, so that mistakes are answered at once.
"""

import argparse
import functools
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from study.planning import Plan, make_plan
from study.spec import StudySpec
from study.terminal import say

DEFAULT = "quickstart"
RESULTS = "results"
OF_A_FILE = ("a study file", "--set")
# What each of these reads beside itself.
READS = {
    "list": (),
    "schema": (),
    "compare": (),
    "validate": OF_A_FILE,
    "prepare": OF_A_FILE,
    "plan": (*OF_A_FILE, "--probe", "--past"),
    "once": (*OF_A_FILE, "--output"),
}


def prepared(options: argparse.Namespace) -> Callable[[], int]:
    """Does what is quick, and returns what is left to do, which returns the exit code.

    Raises:
        ValueError: for a mistake in the command or the study file, with the message for the
            person; what is returned raises only MistakeError for a mistake.
    """
    _check(options)
    if options.list:
        return _said(_studies())
    if options.schema:
        from study.schema import study_schema

        return _said(json.dumps(study_schema(), indent=2, ensure_ascii=False))
    if options.compare:
        return _compare(*options.compare)
    if options.resume is not None:
        return _resume(options)
    plan = _plan(options)
    if options.validate:
        from study.description import describe

        return _said("\n".join(describe(plan)))
    if options.prepare:
        return _prepare(plan)
    return _run(plan, options)


def _check(options: argparse.Namespace) -> None:
    """Refuses options that mean nothing together."""
    if options.price is not None and not options.plan:
        raise ValueError("--price must be given with --plan.")
    if options.price is not None and not 0 <= options.price < float("inf"):
        raise ValueError(f"--price must be a number of at least 0, but got {options.price:g}.")
    given = {
        "a study file": options.file,
        "--output": options.output,
        "--probe": options.probe,
        "--past": options.past,
        "--set": options.set,
    }
    here = [what for what, value in given.items() if value]
    if options.resume is not None:
        _refuse_beside(
            "--resume",
            [one for one in here if one != "--set"],
            ": a study goes on with what is in its own folder, changed by --set alone",
        )
    for mode, reads in READS.items():
        if getattr(options, mode):
            _refuse_beside(f"--{mode}", [one for one in here if one not in reads])


def _refuse_beside(mode: str, others: Sequence[str], why: str = "") -> None:
    if others:
        raise ValueError(f"{mode} must be given without {others[0]}{why}.")


def _run(plan: Plan, options: argparse.Namespace) -> Callable[[], int]:
    """Runs a study, or one configuration, or says what it would cost."""
    from study.preparation import data_hashes, pinned

    hashes = data_hashes(plan) if options.probe or not options.plan else {}
    plan = pinned(plan, hashes)
    estimate = None
    if options.plan or options.probe or options.past:
        from study.plan_table import show_forecast

        estimate = show_forecast(plan, options.past, options.probe, options.price)
    if options.plan:
        return _done
    if options.once:
        from study.once import run_once, single_trial

        single_trial(plan)
        return functools.partial(run_once, plan, _output_folder(options.output, plan.spec), hashes)
    output = _output_folder(options.output, plan.spec)
    from study.conduct import conduct

    return functools.partial(conduct, plan, output, hashes, estimate)


def _resume(options: argparse.Namespace) -> Callable[[], int]:
    """Goes on with a study, extended by --set."""
    from study.restore import find_study

    roots = [Path(RESULTS)]
    shipped = _shipped().get(options.resume)
    if shipped is not None and (storage := StudySpec.load(shipped).storage) is not None:
        roots.append(Path(storage))
    roots += [Path(one.partition("=")[2]) for one in options.set if one.startswith("storage=/")]
    output = find_study(options.resume, roots)
    from study.conduct import resume

    return functools.partial(resume, output, options.set)


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
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror or error}.") from error
    if not there:
        raise ValueError(
            f"{path}: there is no such file; give the path of a study file or one of "
            f"{sorted(shipped)}."
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
    output = wanted or Path(spec.storage or RESULTS) / name
    try:
        output.mkdir(parents=True, exist_ok=True)
        if any(output.iterdir()):
            raise ValueError(f"--output must be a new or an empty folder, but {output} is not.")
    except OSError as error:
        raise ValueError(f"--output: {output} cannot be used: {error.strerror}.") from error
    return output


def _said(text: str) -> Callable[[], int]:
    say(text)
    return _done


def _done() -> int:
    return 0
