"""The README's example and Python snippet are run, so that they stay true."""

import re
from pathlib import Path

from study.planning import make_plan
from study.spec import StudySpec

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_study_file_in_the_readme_is_valid(tmp_path: Path) -> None:
    (text,) = blocks("yaml")
    path = tmp_path / "study.yaml"
    path.write_text(text, encoding="utf-8")
    plan = make_plan(StudySpec.load(path))
    assert len(plan.cells) == 6


def test_the_trainer_snippet_runs() -> None:
    (snippet,) = blocks("python")
    # The whole stream would take minutes: the first task, of few images, says enough.
    quick = (
        '"data.tasks": 50, "data.classes": 60, "data.train_per_class": 2, "optim.epochs": 1, '
        '"method.rank": 2'
    )
    assert '"data.tasks": 50' in snippet
    code = snippet.replace('"data.tasks": 50', quick).replace(
        "while not trainer.done", "for _ in range(1)"
    )
    exec(compile(code, "README.md", "exec"), {"print": lambda *_: None})
