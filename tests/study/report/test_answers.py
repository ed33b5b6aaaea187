"""The answers that come along: one page, one picture and its numbers for each small study.

One whose header says that it was not run yet has none.
"""

import csv
from pathlib import Path

import pytest

from study import run

FOLDER = Path(run.__file__).parent
ANSWERS = FOLDER / "answers"
NAMES = sorted(
    path.stem.removesuffix("_small")
    for path in FOLDER.glob("specs/*_small.yaml")
    if "# Cost: not run yet" not in path.read_text(encoding="utf-8")
)
MOST_BYTES = 100_000


def test_every_small_study_has_an_answer_and_the_index_names_it() -> None:
    index = (ANSWERS / "README.md").read_text(encoding="utf-8")
    assert NAMES and [name for name in NAMES if f"[{name}]({name}.md)" not in index] == []
    wanted = {f"{name}{kind}" for name in NAMES for kind in (".md", ".svg", ".csv")}
    assert {path.name for path in ANSWERS.iterdir()} == wanted | {"README.md"}


@pytest.mark.parametrize("name", NAMES)
def test_a_page_says_what_it_shows_and_what_not_and_how_it_was_made(name: str) -> None:
    page = (ANSWERS / f"{name}.md").read_text(encoding="utf-8")
    for part in (
        "**Answer.** ",
        f"]({name}.svg)",
        "It shows ",
        "It does not show ",
        f"`python study/run.py {name}_small`",
        "Status: complete. Failed trials: 0.",
        f"`{name}.csv`",
    ):
        assert part in page, part
    assert "TO WRITE" not in page
    assert all(path.stat().st_size < MOST_BYTES for path in ANSWERS.glob(f"{name}.*"))


@pytest.mark.parametrize("name", NAMES)
def test_numbers_over_tasks_have_their_interval_and_count(name: str) -> None:
    with (ANSWERS / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows
    for row in rows:
        low, mean, high = (row[key] for key in ("low", "mean", "high"))
        assert int(row["tasks_seen"]) >= 1 and int(row["n"]) >= 1
        assert int(row["n"]) == 1 or float(low) <= float(mean) <= float(high), row
