"""The studies that come along: each question in two sizes, each file saying what it is worth."""

from pathlib import Path

import pytest

from study import run
from study.planning import make_plan
from study.spec import StudySpec

SPECS = Path(run.__file__).parent / "specs"
QUESTIONS = (
    "long_sequences",
    "down_init",
    "backbones",
    "orthogonality",
    "rank_sensitivity",
    "memory_overhead",
    "epsilon_tradeoff",
    "equivalence",
    "sd_directions",
)
SMALL = sorted(SPECS.glob("*_small.yaml"))
FULL = sorted([*(SPECS / f"{name}.yaml" for name in QUESTIONS), *SPECS.glob("paper_*.yaml")])
# What every installation has: drawn here, or a package that the study extras bring along.
AT_HAND = ("icons", "digits")


def named(path: Path) -> str:
    return path.stem


@pytest.mark.parametrize("name", QUESTIONS)
def test_every_question_has_a_small_study_and_a_full_one(name: str) -> None:
    small, full = (SPECS / f"{name}{size}.yaml" for size in ("_small", ""))
    grids = [set(StudySpec.load(path).grid) for path in (small, full)]
    assert grids[0] & grids[1], "both must vary one thing at least"


@pytest.mark.parametrize("path", [*SMALL, *FULL], ids=named)
def test_a_header_says_what_the_study_shows_and_what_not(path: Path) -> None:
    header = path.read_text(encoding="utf-8").split("\nname:")[0]
    told = "# Shows:" in header or "# Published" in header
    assert told and "# Does not show:" in header
    # The command is the study's own.
    assert f"python study/run.py {path.stem}\n" in header


@pytest.mark.parametrize("path", SMALL, ids=named)
def test_a_small_study_needs_neither_files_nor_a_gpu(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LRCS_DATA_ROOT", raising=False)
    spec = StudySpec.load(path)
    assert (spec.resources.gpu, spec.resources.cpu) == (0, 1)
    cells = make_plan(spec).cells
    for cell in cells:
        config = cell.config("confirm", {}, cell.seeds[0])
        assert config.data.name in AT_HAND
        assert len(cell.seeds) >= 3


@pytest.mark.parametrize("path", FULL, ids=named)
def test_a_full_study_is_checked_without_its_data(
    path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LRCS_DATA_ROOT", str(tmp_path))
    spec = StudySpec.load(path)
    assert spec.resources.gpu == "auto"
    assert spec.search.space == "none" or spec.trials > 1
    for cell in make_plan(spec).cells:
        config = cell.config("confirm", {}, cell.seeds[0])
        assert (config.data.image_size, config.backbone.pretrained) == (224, True)
