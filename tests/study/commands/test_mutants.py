"""Changed study files are valid or refused, quickly and in words."""

import contextlib
import io
import os
import random
import resource
import sys
import time
from pathlib import Path

import pytest

from study import run
from study.commands.main import SPECS

MUTANTS = 400
SECONDS, BYTES = 10, 2**30
PIECES = (
    *("", "-1", "0", "010", "1e400", ".nan", "null", "true", "[]", "{}", "[[1]]", "{a: 1}"),
    *(
        "'",
        ":",
        "- ",
        "&a ",
        "*a",
        "!!int ",
        "\t",
        "é",
        '"\\ud83d"',
        "x" * 3000,
        "9" * 30,
        "[" * 500,
    ),
)


def mutant(text: str, chance: random.Random) -> str:
    """A study file with one to three changes: lines, words or letters lost, doubled, replaced."""
    for _ in range(chance.randint(1, 3)):
        lines = text.splitlines(keepends=True) or [""]
        at = chance.randrange(len(lines))
        kind = chance.randrange(5)
        if kind == 0:
            del lines[at]
        elif kind == 1:
            lines.insert(at, chance.choice(lines))
        elif kind == 2:
            words = lines[at].split(" ")
            words[chance.randrange(len(words))] = chance.choice(PIECES)
            lines[at] = " ".join(words)
        elif kind == 3:
            key = lines[at].partition(":")[0]
            lines[at] = f"{key}: {chance.choice(PIECES)}\n"
        else:
            place = chance.randrange(len(lines[at]) + 1)
            lines[at] = lines[at][:place] + chance.choice(PIECES) + lines[at][place + 1 :]
        text = "".join(lines)
    return text


def judged(path: Path) -> str:
    """What is wrong with how one file is answered, in a process of its own; "" if nothing."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        problem, start = "it died", time.perf_counter()
        said = io.StringIO()
        try:
            with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
                code = run.main([str(path), "--validate"])
            seconds = time.perf_counter() - start
            used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            right = code in (0, 2) and "Traceback" not in said.getvalue()
            quick = seconds < SECONDS and used < BYTES
            problem = "" if right and quick else f"code {code}, {seconds:.1f} s, {used} bytes"
        except BaseException as error:  # noqa: BLE001 (whatever it is, it is the test's finding)
            problem = f"{type(error).__name__}: {error}"[:300]
        finally:
            os.write(writing, problem.encode("utf-8", "replace"))
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8") as answers:
        answer = answers.read()
    return answer if os.waitpid(child, 0)[1] == 0 else "it was killed"


@pytest.mark.nightly
@pytest.mark.process
def test_changed_study_files_are_valid_or_refused(tmp_path: Path) -> None:
    chance = random.Random(16)
    texts = [path.read_text(encoding="utf-8") for path in sorted(SPECS.glob("*.yaml"))]
    # What all of them import, once.
    assert run.main([str(SPECS / "quickstart.yaml"), "--validate"]) == 0
    fallen = {}
    for number in range(MUTANTS):
        path = tmp_path / f"{number}.yaml"
        path.write_text(mutant(chance.choice(texts), chance), encoding="utf-8")
        if problem := judged(path):
            fallen[number] = f"{problem}\n{path.read_text(encoding='utf-8')[:2000]}"
            sys.stderr.write(f"{number}: {problem}\n")
    assert not fallen
