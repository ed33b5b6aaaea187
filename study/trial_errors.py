"""What Tune keeps of a trial's failure: what it was, and whose."""

from pathlib import Path

from ray import cloudpickle
from ray.exceptions import RayActorError
from ray.tune.experiment import Trial

from study.checked_trainable import NodeCheckError

LOST_NODE = "its node has died"


def error_of(trial: Trial) -> BaseException | None:
    """The last error of a trial; its traceback is in error.txt of Tune's folder."""
    if trial.pickled_error_file is None:
        return None
    error: BaseException = cloudpickle.loads(Path(trial.pickled_error_file).read_bytes())
    return error


def in_one_line(error: BaseException | None) -> str:
    """What a person is told of an error."""
    if error is None:
        return "unknown: see ray.log"
    cause = getattr(error, "cause", None) or error
    lines = str(cause).strip().splitlines() or [""]
    return _raised_in_setup(cause) or f"{type(cause).__name__}: {lines[0]}"


def has_died(error: BaseException | None) -> bool:
    """Whether a trial's process has ended without raising anything."""
    return isinstance(error, RayActorError) and _raised_in_setup(error) is None


def is_nodes(error: BaseException | None) -> bool:
    """Whether a node has failed, and not the trial on it.

    It was lost, which Ray says in words alone, or did not pass its check.
    """
    if not isinstance(error, RayActorError):
        return False
    raised, _, _ = (_raised_in_setup(error) or "").partition(":")
    unfit = raised == f"{NodeCheckError.__module__}.{NodeCheckError.__name__}"
    return error.preempted or LOST_NODE in str(error) or unfit


def _raised_in_setup(error: BaseException) -> str | None:
    """What a trial raised while it was set up: Ray puts its traceback into the error's text."""
    _, frame, rest = str(error).strip().rpartition('\n  File "')
    if not isinstance(error, RayActorError) or not frame:
        return None
    raised = [line for line in rest.splitlines()[1:] if line[:1].strip()]
    return raised[0] if raised else None
