"""The studies that come along: each question in two sizes, each file saying what it is worth."""

import json
from pathlib import Path

import jsonschema
import pytest

from study import run
from study.planning import study_file
from study.planning.plan import make_plan
from study.planning.schema import study_schema
from study.planning.spec import StudySpec

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
# What every installation has: drawn here, or a package that the study extras bring along.
AT_HAND = ("icons", "digits", "glyphs")


@pytest.fixture(scope="module")
def schema() -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(study_schema())


@pytest.mark.slow  # that of several backbones asks timm for each of them
@pytest.mark.parametrize("path", sorted(SPECS.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_study_is_valid_and_says_what_it_shows(
    path: Path,
    schema: jsonschema.Draft202012Validator,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    # It is checked without its data.
    monkeypatch.setenv("LRCS_DATA_ROOT", str(tmp_path))
    spec = StudySpec.load(path)
    assert spec.name == path.stem
    text = path.read_text(encoding="utf-8")
    header = text.split("\nname:")[0]
    assert all(f"# {word}:" in header for word in ("Question", "Command", "Cost"))
    for plain in (study_file.parse(text), json.loads(json.dumps(spec.to_plain()))):
        assert not [error.message for error in schema.iter_errors(plain)]
    cells = make_plan(spec).cells
    configs = [cell.config("confirm", {}, cell.seeds[0]) for cell in cells]
    small = path.stem.endswith("_small")
    if small or path.stem in QUESTIONS or path.stem.startswith("paper_"):
        assert "# Shows:" in header or "# Published" in header
        assert "# Does not show:" in header
        # The command is the study's own.
        assert f"python study/run.py {path.stem}\n" in header
        assert spec.resources.gpu == (0 if small else "auto")
    if small:
        assert spec.resources.cpu == 1
        assert {config.data.name for config in configs} <= set(AT_HAND)
        assert all(len(cell.seeds) >= 3 for cell in cells)
    elif spec.resources.gpu == "auto":
        assert spec.search.space == "none" or spec.trials > 1
        seen = {(config.data.image_size, config.backbone.pretrained) for config in configs}
        assert seen == {(224, True)}


@pytest.mark.parametrize("name", QUESTIONS)
def test_every_question_has_a_small_study_and_a_full_one(name: str) -> None:
    small, full = (StudySpec.load(SPECS / f"{name}{size}.yaml").grid for size in ("_small", ""))
    assert set(small) & set(full), "both must vary one thing at least"
