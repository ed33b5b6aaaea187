"""What the options of study/run.py do, each with a function here.

Heavy modules are imported where they are needed, so that mistakes are answered at once.
"""

import argparse
import functools
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from study.commands.options import SPLIT, check_options, parser, refuse_repeated, refuse_unknown
from study.errors import MistakeError, brief
from study.errors import hint as errors_hint
from study.ledger import RESULTS, StudyFolder, is_full, refuse_planted, shared_folder
from study.system import ensure_home, guarded_output, say

if TYPE_CHECKING:
    from study.planning import Plan, StudySpec

DEFAULT = "quickstart"
SPECS = Path(__file__).parents[1] / "specs"
# Where the cluster files put the project, below the home folder.
PROJECT_FOLDER = "lrcs"


def run_command(arguments: Sequence[str], alone: bool) -> int:
    """Runs the command line of study/run.py, of which it returns the exit code.

    Args:
        arguments: what stands behind the name of the program.
        alone: whether `ray submit` has brought study/run.py without the rest of the project.
    """
    with guarded_output():
        try:
            ensure_home()
            return _command(arguments, alone)
        except (OSError, RuntimeError) as error:
            if not is_full(error):
                raise
            reason = " ".join(str(error).split())
            told = f"nothing more can be written ({reason}): make room, or bring the storage back."
            return _refused(ValueError(told))


def _command(arguments: Sequence[str], alone: bool) -> int:
    options, unknown = parser().parse_known_args(arguments)
    try:
        if alone:
            from study.engine import expect_cluster

            expect_cluster()
        refuse_unknown(unknown, alone)
        refuse_repeated(arguments)
        work = prepared(options, SPLIT if alone else "")
    except ValueError as error:
        return _refused(error)
    # From here on another ValueError is nobody's mistake but this project's.
    try:
        return work()
    except MistakeError as error:
        return _refused(error)


def prepared(options: argparse.Namespace, hint: str) -> Callable[[], int]:
    """Does what is quick, and returns what is left to do, which returns the exit code.

    `hint` is said of a study file that is not there.

    Raises:
        ValueError: for a mistake in the command or the study file, with the message for the
            person; what is returned raises only MistakeError for a mistake.
    """
    check_options(options)
    if options.list:
        return _said(_studies())
    if options.schema:
        from study.planning import study_schema

        return _said(json.dumps(study_schema(), indent=2, ensure_ascii=False))
    if options.compare:
        return _compare(*options.compare)
    if options.report is not None:
        return _report(options)
    if options.resume is not None:
        return _resume(options)
    if options.replay is not None:
        return _replay(options)
    if options.optuna:
        return _optuna(options)
    if options.open is not None:
        return _open(options)
    plan = _plan(options, hint)
    if options.validate:
        from study.commands.plan import describe

        return _said("\n".join(describe(plan)))
    if options.prepare:
        return _prepare(plan)
    return _run(plan, options)


def _run(plan: "Plan", options: argparse.Namespace) -> Callable[[], int]:
    """Runs a study, or one configuration, or says what it would cost."""
    from study.engine import on_cluster
    from study.planning.data import data_splits, pinned

    looks = options.probe or options.pilot or not options.plan
    splits = data_splits(plan, on_cluster) if looks else {}
    plan = pinned(plan, {name: split.sha256 for name, split in splits.items()})
    estimate = None
    if options.plan or options.probe or options.past:
        from study.commands.plan import show_forecast

        estimate = show_forecast(plan, options.past, options.probe, options.price)
    if options.plan:
        from study.commands.power import show_power

        show_power(plan, options.past, options.pilot or 0)
        return _done
    if options.once:
        from study.commands.once import run_once, single_trial

        single_trial(plan)
        return functools.partial(run_once, plan, _new_folder(options.output, plan.spec), splits)
    folder = _new_folder(options.output, plan.spec)
    from study.commands.run_study import begin_study

    return functools.partial(begin_study, plan, folder, splits, estimate)


def _resume(options: argparse.Namespace) -> Callable[[], int]:
    """Goes on with a study, extended by --set."""
    from study.commands.run_study import resume_study

    folder = _found(options.resume, options, "--resume")
    return functools.partial(resume_study, folder, options.set)


def _report(options: argparse.Namespace) -> Callable[[], int]:
    from study.commands.recorded import report_again

    folder = _found(options.report, options, "--report")
    return functools.partial(report_again, folder, options.output, options.contrasts)


def _open(options: argparse.Namespace) -> Callable[[], int]:
    from study.commands.open_study import open_study

    return functools.partial(open_study, _found(options.open, options, "--open"))


def _replay(options: argparse.Namespace) -> Callable[[], int]:
    """Writes the records of a study to MLflow."""
    from study.tracking import default_uri, without_secrets

    folder = _found(options.replay, options, "--replay")
    uri = options.tracking_uri or default_uri(folder)

    def work() -> int:
        from study.tracking import replay

        records, problem = replay(folder, uri)
        if problem is None:
            say(f"{records} records of {folder.path} are in {without_secrets(uri)}.")
        else:
            say(f"error: {problem}", error=True)
        return 0 if problem is None else 1

    return work


def _optuna(options: argparse.Namespace) -> Callable[[], int]:
    """Writes the searches of a study to a storage of Optuna."""
    url, wanted = options.optuna
    folder = _found(wanted, options, "--optuna")

    def work() -> int:
        from study.tracking import without_secrets, write_searches

        new, ended = write_searches(folder, url)
        shown = without_secrets(url)
        say(f"{ended} search trials of {folder.path} are in {shown}, {new} of them new.")
        say(f"To look at them: optuna-dashboard {shown}")
        return 0

    return work


def _found(wanted: str, options: argparse.Namespace, option: str) -> StudyFolder:
    """The folder of a study, which is said."""
    folder = StudyFolder.find(wanted, _roots(options), option)
    say(f"Study: {folder.path}")
    return folder


def _roots(options: argparse.Namespace) -> list[Path]:
    """The folders in which --resume, --report, --replay, --optuna and --open look for a study."""
    from study.planning import StudySpec

    roots = [*shared_folder(), Path(RESULTS)]
    of_optuna = options.optuna[1] if options.optuna else None
    wanted = options.resume or options.report or options.replay or of_optuna or options.open
    shipped = _shipped().get(wanted)
    if shipped is not None and (storage := StudySpec.load(shipped).storage) is not None:
        roots.append(Path(storage))
    return roots + [
        Path(change.partition("=")[2]) for change in options.set if change.startswith("storage=/")
    ]


def _compare(first: Path, second: Path) -> Callable[[], int]:
    from rich.console import Console

    from study.commands.recorded import show_comparison

    show_comparison(first, second, Console())
    return _done


def _prepare(plan: "Plan") -> Callable[[], int]:
    from study.planning.data import prepare_all

    try:
        for line in prepare_all(plan):
            say(line)
    except OSError as error:
        raise ValueError(f"the data cannot be prepared: {error}.") from error
    return _done


def _plan(options: argparse.Namespace, hint: str) -> "Plan":
    """Reads and checks the study file."""
    from study.planning import load_plan

    shipped = _shipped()
    name = options.file or DEFAULT
    path = shipped.get(name, Path(name))
    try:
        if name in shipped and options.file and Path(name).is_file():
            raise ValueError(
                f"{name}: may be the study that comes along or the file {Path(name).resolve()}; "
                f"give the path of one: {path} or ./{name}"
            )
        there = path.exists()
        # On a cluster's head, where `ray submit` works in the home folder.
        mounted = Path.home() / PROJECT_FOLDER / path
        if not there and not path.is_absolute() and mounted.is_file():
            path, there = mounted, True
            say(f"Study file: {path}")
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror or error}.") from error
    if not there:
        raise ValueError(
            f"{path}: there is no such file; give the path of a study file or a name that --list "
            f"shows.{errors_hint(name, shipped)}{hint}"
        )
    # Whatever is not searched has its default.
    defaults = ["search=none"] if options.once else []
    return load_plan(path, [*options.set, *defaults], options.once)


def _shipped() -> dict[str, Path]:
    """The studies that come along, by name."""
    return {path.stem: path for path in sorted(SPECS.glob("*.yaml"))}


def _studies() -> str:
    """The studies that come along, with their questions."""
    from study.planning import StudySpec

    lines = []
    for name, path in _shipped().items():
        lines.append(f"{name}: {' '.join(StudySpec.load(path).question.split())}\n    {path}")
    return "\n".join(lines)


def _new_folder(wanted: Path | None, spec: "StudySpec") -> StudyFolder:
    """Makes the folder a study writes to: by default a new one in `storage`, or in results.

    Raises:
        ValueError: if it holds something already, cannot be made, or leads where somebody else
            wants it to.
    """
    name = f"{spec.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    (default,) = shared_folder() or (Path(RESULTS),)
    output = wanted or Path(spec.storage or default) / name
    refuse_planted(output)
    try:
        if wanted is None:
            folder = StudyFolder.claimed(output)
            folder.mark_latest()
            return folder
        output.mkdir(parents=True, exist_ok=True)
        if not StudyFolder(output).is_unused():
            raise ValueError(f"--output must be a new or an empty folder, but {output} is not.")
    except OSError as error:
        raise ValueError(f"--output: {output} cannot be used: {error.strerror}.") from error
    return StudyFolder(output)


def _said(text: str) -> Callable[[], int]:
    say(text)
    return _done


def _done() -> int:
    return 0


def _refused(error: ValueError) -> int:
    say(f"error: {brief(str(error))}", error=True)
    return 2
