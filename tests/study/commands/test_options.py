"""Options that mean nothing together are refused before anything is read."""

import pytest

from study.commands.options import ONE_VALUE, check_options, parser, refuse_repeated
from tests.study.commands.conftest import Command


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--price", "2"], "--price must be given with --plan."),
        (["--plan", "--price", "-2"], "--price must be a number of at least 0, but got -2."),
        (["--plan", "--price", "nan"], "--price must be a number of at least 0, but got nan."),
        (["--pilot", "3"], "--pilot must be given with --plan."),
        (["--plan", "--pilot", "1"], "--pilot must be a whole number from 2 to 100, but got 1."),
        (["--plan", "--pilot", "0"], "--pilot must be a whole number from 2 to 100, but got 0."),
        (["--once", "--past", "x"], "--once must be given without --past."),
        (["--once", "--probe"], "--once must be given without --probe."),
        (["--plan", "--output", "x"], "--plan must be given without --output."),
        (["small.yaml", "--report", "x"], "--report must be given without a study file."),
        (["small.yaml", "--resume", "x"], "--resume must be given without a study file: a study"),
        (["--resume", "x", "--output", "x"], "--resume must be given without --output: a study"),
        (["--report", "x", "--past", "y"], "--report must be given without --past."),
        (["small.yaml", "--contrasts", "x"], "--contrasts must be given with --report: a study"),
        (["--resume", "x", "--contrasts", "x"], "--contrasts must be given with --report: a"),
        (["--resume", "x", "--probe"], "--resume must be given without --probe: a study"),
    ],
)
def test_what_means_nothing_together_is_refused(options: list[str], message: str) -> None:
    with pytest.raises(ValueError) as refused:
        check_options(parser().parse_args(options))
    assert str(refused.value).startswith(message)


def test_a_refusal_is_one_message_and_exit_code_2(command: Command) -> None:
    expected = "error: --price must be given with --plan.\n"
    assert command("quickstart", "--price", "2") == (2, "", expected)


@pytest.mark.parametrize("option", ONE_VALUE)
def test_of_two_values_none_is_taken(command: Command, option: str) -> None:
    values = ["1"] * (2 if option in ("--compare", "--optuna") else 1)
    code, _, error = command(option, *values, option, *values)
    assert (code, error) == (2, f"error: {option} must be given once, but is there twice.\n")
    with pytest.raises(ValueError, match=f"{option} must be given once"):
        refuse_repeated([f"{option}=1", option, "1"])
    refuse_repeated([option, *values, "--set", f"x={option}", "--set", f"y={option}"])
