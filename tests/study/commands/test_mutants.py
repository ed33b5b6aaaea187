"""Changed study files and ledgers are valid or refused, quickly and in words."""

import contextlib
import copy
import inspect
import io
import os
import random
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from study import run
from study.commands.main import SPECS
from study.engine import tuner
from study.ledger import Record, read_ledger, records
from study.ledger.ledger import line_of
from study.planning.openings import opening_records
from study.search.past_trials import PastTrials
from study.search.study_search import StudySearch
from tests.study.commands.conftest import Command, PlayedBy
from tests.study.histories import journal_of, ledger_of, timed
from tests.study.report.engine_ledgers import resumed, several_objectives
from tests.study.report.ledgers import made_up_study
from tests.study.small_study import small_plan

MUTANTS = 400
LEDGERS = 150
VALUES: tuple[Any, ...] = (
    *(None, True, 0, -1, 3, 1e300, 2**70, "", "x", "../x", "inflora", "é\u202e"),
    *([], {}, [[]], [None], {"a": 1}, {"a": None}),
)
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


def places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every entry below a value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    for key, entry in inner:
        yield (*place, key)
        if isinstance(entry, dict | list):
            yield from places(entry, (*place, key))


def odd(ledger: Sequence[Record], chance: random.Random) -> list[Record]:
    """A ledger with one to three changes: records or entries lost, doubled, of another kind."""
    found: list[Any] = copy.deepcopy(list(ledger))
    for _ in range(chance.randint(1, 3)):
        at = chance.randrange(len(found))
        kind = chance.randrange(5)
        if kind == 0:
            del found[at]
        elif kind == 1:
            found.insert(chance.randrange(len(found)), copy.deepcopy(found[at]))
        else:
            *way, last = chance.choice(list(places(found[at])))
            holder = found[at]
            for key in way:
                holder = holder[key]
            if kind == 2:
                del holder[last]
            else:
                holder[last] = chance.choice(VALUES)
    return found


COMPARED: dict[str, Any] = {
    "grid": {"method.name": ["inflora", "nearest_mean"], "data.tasks": [2]},
    "search": "none",
    "seeds": {"first": 3, "at_most": 5, "until": "decided"},
}


def half_way(**changes: Any) -> list[Record]:
    """The ledger of a small study that was killed in its seventh trial."""
    axes = {"method.name": ["inflora", "sd_lora"], "data.tasks": [2]}
    plan = small_plan(**{"grid": axes, "trials": 2, "retries": 0, **changes})
    opening, later = timed(opening_records(plan, {}, {})), list[Record]()
    journal, chance = journal_of(later, opening), random.Random(1)
    search = StudySearch(plan, journal, PastTrials(journal.history, plan), lambda: 1)
    for _ in range(6):
        start = search.next()
        assert not isinstance(start, str)
        trial, split = start.trial, "val" if start.trial.role == "search" else "test"
        for task in (1, 2):
            accuracy = chance.uniform(0.4, 0.6)
            metrics = {f"{split}/accuracy": accuracy, f"{split}/forgetting": 0.1}
            journal.append(records.task(trial.id, task, metrics, [0.5] * task))
            search.note(trial, task, metrics)
        journal.append(records.end(trial.id, "completed"))
        search.end(trial, failed=False)
    search.next()
    return [*opening, *later]


def hand_out(*arguments: Any, **named: Any) -> bool:
    """In the tuner's place: what a study would run next, which fails at once."""
    given = inspect.signature(RUN_STUDY).bind(*arguments, **named).arguments
    search = StudySearch(given["plan"], given["journal"], given["past"], lambda: 1)
    for _ in range(4):
        start = search.next()
        if isinstance(start, str):
            break
        search.end(start.trial, failed=True)
    return True


RUN_STUDY = tuner.run_study


@pytest.mark.nightly
@pytest.mark.parametrize("option", ["--report", "--resume"])
def test_changed_ledgers_are_read_or_refused(
    tmp_path: Path,
    command: Command,
    played_by: PlayedBy,
    request: pytest.FixtureRequest,
    option: str,
) -> None:
    chance = random.Random(16)
    ledgers = [half_way(), half_way(**COMPARED)]
    if option == "--report":
        engine = [several_objectives(), resumed(killed=True)]
        ledgers = [*engine, ledgers[1], made_up_study(("inflora", "joint"), (3,), (0, 1), layers=1)]
    else:
        played_by(hand_out)
        request.getfixturevalue("quick_report")
    ledgers = [
        read_ledger(ledger_of(ledger, tmp_path / f"whole-{number}"))
        for number, ledger in enumerate(ledgers)
    ]
    fallen, codes = {}, set[int]()
    for number in range(LEDGERS):
        folder = tmp_path / str(number)
        folder.mkdir()
        lines = [line_of(record) for record in odd(chance.choice(ledgers), chance)]
        (folder / "ledger.jsonl").write_bytes(b"".join(lines))
        try:
            code, out, err = command(option, folder)
        except Exception as error:  # noqa: BLE001 (whatever it is, it is the test's finding)
            fallen[number] = f"{type(error).__name__}: {error}"[:300]
            continue
        codes.add(code)
        # A resumed study whose trials fail has no result.
        if code not in ((0, 2) if option == "--report" else (0, 1, 2)) or "Traceback" in out + err:
            fallen[number] = err[-300:]
    assert not fallen
    assert len(codes) > 1
