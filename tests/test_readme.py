"""Every command, study file and snippet in any README is run or checked, so that they stay true."""

import importlib.util
import itertools
import re
import shlex
import shutil
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from study.commands.options import check_options, parser
from study.planning import load_plan

PROJECT = Path(__file__).parents[1]
READMES = sorted(
    path
    for path in PROJECT.rglob("README.md")
    if not {".venv", "build", "results"} & set(path.relative_to(PROJECT).parts)
)
PROGRAMS = ("python", "python3", "python3.11", "ray", "bash", "pip", "pytest", "mlflow", "ruff")
STARTS = re.compile(rf"(\.venv/bin/)?({'|'.join(PROGRAMS)}) ")


def blocks(readme: Path, language: str) -> list[str]:
    text = readme.read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def commands() -> Iterator[tuple[str, str]]:
    """Each command of a README, of its blocks and within its text, with the README's name."""
    for readme in READMES:
        name = str(readme.relative_to(PROJECT))
        lines = [line for block in blocks(readme, "bash") for line in block.splitlines()]
        prose = re.sub(r"```.*?```", "", readme.read_text(encoding="utf-8"), flags=re.DOTALL)
        spans = (" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose))
        lines += [span for span in spans if STARTS.match(span)]
        for line in lines:
            for part in re.split(r"&&|\|", line.partition(" # ")[0]):
                command = part.partition(" > ")[0].strip()
                if command and not command.startswith("#"):
                    yield name, command


def test_the_top_readme_is_what_a_newcomer_reads() -> None:
    assert len((PROJECT / "README.md").read_text(encoding="utf-8").splitlines()) <= 200


@pytest.mark.parametrize("readme", READMES, ids=lambda path: str(path.relative_to(PROJECT)))
def test_every_study_file_in_a_readme_is_valid(readme: Path, tmp_path: Path) -> None:
    for text in blocks(readme, "yaml"):
        path = tmp_path / "study.yaml"
        path.write_text(text, encoding="utf-8")
        assert load_plan(path).cells


def test_the_trainer_snippet_runs() -> None:
    snippets = [snippet for readme in READMES for snippet in blocks(readme, "python")]
    assert snippets
    # The whole stream would take minutes: the first task, of few images, says enough.
    whole, more = '"data.tasks": 50', '"data.classes": 60, "data.train_per_class": 2'
    quick = f'{whole}, {more}, "optim.epochs": 1, "method.rank": 2'
    for snippet in snippets:
        assert whole in snippet
        code = snippet.replace(whole, quick).replace("while not trainer.done", "for _ in range(1)")
        exec(compile(code, "README.md", "exec"), {"print": lambda *_: None})


@pytest.mark.parametrize(("readme", "command"), sorted(set(commands())))
def test_every_command_can_be_given(readme: str, command: str) -> None:
    words = shlex.split(command)
    while re.fullmatch(r"[A-Za-z_]+=.*", words[0]):
        words = words[1:]
    program, *arguments = words
    program = program.removeprefix(".venv/bin/")
    if program.startswith("python"):
        _check_python(arguments)
    elif program == "ray":
        _check_ray(arguments)
    elif program == "bash":
        assert (PROJECT / arguments[0]).is_file(), arguments[0]
    elif program == "pip":
        _check_pip(arguments)
    elif program not in (".", "export"):
        beside = Path(sys.executable).with_name(program)
        assert beside.exists() or shutil.which(program), f"{readme}: there is no {program}"


def _check_python(arguments: list[str]) -> None:
    if arguments[0] == "-m":
        assert importlib.util.find_spec(arguments[1]) is not None, arguments[1]
    elif arguments[0] == "study/run.py":
        given = [word for word in arguments[1:] if word not in ("…", "...")]
        if given and given[-1] == "--set":
            given.append("trials=2")
        options, unknown = parser().parse_known_args(given)
        assert not unknown
        check_options(options)
    else:
        assert (PROJECT / arguments[0]).is_file(), arguments[0]


def _check_ray(arguments: list[str]) -> None:
    """The subcommand exists and has the options; files that it names exist."""
    from ray.scripts.scripts import cli

    command = cli
    rest = list(arguments)
    while hasattr(command, "commands") and rest:
        assert rest[0] in command.commands, rest
        command = command.commands[rest.pop(0)]
    known = {name for parameter in command.params for name in parameter.opts}
    stop = rest.index("--") if "--" in rest else len(rest)
    if arguments[0] == "submit":
        # What follows the script is the script's.
        stop = next((at for at, word in enumerate(rest) if word.endswith(".py")), stop) + 1
        _check_python(["study/run.py", *rest[stop:]])
    for word in rest[:stop]:
        if word.startswith("-") and not word.startswith("--head"):
            assert word.partition("=")[0] in known, (word, sorted(known))
        elif word.endswith((".yaml", ".py")) and "CLUSTER" not in word:
            assert (PROJECT / word).is_file(), word


def _check_pip(arguments: list[str]) -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for option, word in itertools.pairwise(arguments):
        if option == "-c":
            assert (PROJECT / word).is_file(), word
        if option == "-e":
            extras = re.findall(r"[\w-]+", word.partition("[")[2])
            assert set(extras) <= set(project["optional-dependencies"])


def test_no_readme_names_a_file_that_is_not_there() -> None:
    tops = {path.name for path in PROJECT.iterdir()}
    for readme in READMES:
        prose = readme.read_text(encoding="utf-8")
        for span in re.findall(r"`([\w./-]+/[\w.-]+\.(?:py|yaml|md|sh))`", prose):
            made_up = "foo" in span or "name" in span.lower()
            if span.partition("/")[0] in tops and not made_up:
                assert (PROJECT / span).is_file(), (readme, span)
