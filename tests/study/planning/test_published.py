"""What was published: rows for data and tasks, and where a trial leaves their protocol."""

from pathlib import Path
from typing import Any

import pytest

from study import run
from study.planning import published
from study.planning.openings import opening_records
from study.planning.plan import load_plan, make_plan
from study.planning.published import RESULTS
from study.planning.spec import StudySpec
from trainables.config import catalog

SPECS = Path(run.__file__).parent / "specs"
PAPERS = sorted(SPECS.glob("paper_*.yaml"))


def params_of(path: Path) -> list[dict[str, Any]]:
    """The settings of one confirmation of every cell, as a ledger has them but for its lists."""
    cells = load_plan(path).cells
    return [dict(cell.trial("confirm", {}, cell.seeds[0]).params) for cell in cells]


def test_rows_are_shares_and_their_names_exist() -> None:
    for row in RESULTS:
        info = catalog.DATASETS[row.data]
        assert 1 / info.classes < row.final < 1
        assert row.anytime is None or row.final < row.anytime < 1
        assert row.final_std is None or 0 < row.final_std < 0.06
        assert row.method is None or row.method in catalog.methods()
        assert row.family in catalog.methods() and row.backbone.startswith("vit_base_patch16_224.")
    # Of the methods here none is left without its row.
    assert {row.label for row in RESULTS if row.method is None} == {"Full fine-tuning"}


def test_a_row_is_found_by_method_data_and_tasks() -> None:
    params = {"method.name": "sd_lora_kd", "data.name": "imagenet_r", "data.tasks": 20}
    (row,) = published.results(params)
    assert (row.final, row.anytime, row.family) == (0.7412, 0.8011, "sd_lora")
    assert published.results({**params, "data.tasks": 19}) == ()
    assert published.results({**params, "method.name": "joint"}) == ()
    # Cut data are other data.
    for key in published.CUTS:
        assert published.results({**params, key: None}) == (row,)
        assert published.results({**params, key: 50}) == ()


@pytest.mark.slow
@pytest.mark.parametrize("path", PAPERS, ids=lambda path: path.stem)
def test_every_paper_study_has_a_published_number_and_its_protocol(path: Path) -> None:
    family = "inflora" if path.stem.endswith("_inflora") else "sd_lora"
    header = path.read_text(encoding="utf-8")
    cells = params_of(path)
    compared = []
    for params in cells:
        rows = [row for row in published.results(params) if row.family == family]
        for row in rows:
            assert published.departures(row, params) == ()
            assert f"{100 * row.final:.2f}" in header
            assert row.anytime is None or f"{100 * row.anytime:.2f}" in header
        compared += rows
    streams = {(params["data.name"], params["data.tasks"]) for params in cells}
    left_out = {
        (row.method, row.data)
        for row in RESULTS
        if row.method is not None
        and row.family == family
        and (row.data, row.tasks) in streams
        and row not in compared
    }
    # Only methods of whose training nothing is published for these data.
    assert not any((data, None) in catalog.declaration(name).recipes for name, data in left_out)
    assert {name for name, _ in left_out} <= {"l2p", "dual_prompt", "coda_prompt", "hide_prompt"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("study", "method", "tasks", "finals"),
    [
        ("paper_imagenet_r", "l2p", 10, [0.7126, 0.7287, 0.6977, 0.6649]),
        ("paper_imagenet_r", "coda_prompt", 20, [0.6938, 0.7237, 0.6468, 0.6753]),
        ("paper_imagenet_r", "hide_prompt", 5, [0.7477]),
        ("paper_cifar100", "dual_prompt", 10, [0.8651, 0.8559, 0.8613, 0.8489, 0.8556]),
        ("paper_domainnet", "coda_prompt", 5, [0.7058, 0.7324]),
    ],
)
def test_rows_of_other_protocols_say_what_differs(
    study: str, method: str, tasks: int, finals: list[float]
) -> None:
    asked = (method, tasks)
    (params,) = (
        params
        for params in params_of(SPECS / f"{study}.yaml")
        if (params["method.name"], params["data.tasks"]) == asked
    )
    rows = published.results(params)
    assert [row.final for row in rows] == finals
    for row in rows:
        differing = published.departures(row, params)
        assert bool(differing) == (row.family != "sd_lora")
        other = row.backbone != params["backbone.name"]
        assert any(text.startswith("backbone.name is ") for text in differing) == other
        assert row.remark is None or differing[-1] == row.remark


def test_what_leaves_the_protocol_is_named() -> None:
    (params,) = params_of(SPECS / "paper_cifar100_inflora.yaml")
    changed = {**params, "optim.epochs": 5, "backbone.name": "vit_small_patch16_224"}
    result = next(row for row in published.results(changed) if row.source.endswith("logs"))
    assert published.departures(result, changed) == (
        "backbone.name is vit_small_patch16_224, published with vit_base_patch16_224.augreg_in21k",
        "optim.epochs is 5, published with 20",
    )


def test_training_that_the_source_does_not_state_is_not_compared() -> None:
    cells = params_of(SPECS / "paper_imagenet_a.yaml")
    params = next(cell for cell in cells if cell["method.name"] == "inflora")
    (row,) = published.results(params)
    assert not row.training_stated
    assert published.departures(row, {**params, "optim.epochs": 1}) == ()
    assert published.departures(row, {**params, "data.crop_scale": 0.5}) == (
        "data.crop_scale is 0.5, published with 0.05",
    )


def test_the_ledger_holds_them_for_the_report() -> None:
    plan = load_plan(SPECS / "paper_cifar100_inflora.yaml", ["optim.epochs=3"])
    _, record = opening_records(plan, {})
    assert [row["final"] for row in record["published"]] == [0.8651, 0.8633]
    assert record["published"][0]["departures"] == ["optim.epochs is 3, published with 20"]
    _, *cells = opening_records(load_plan(SPECS / "quickstart.yaml"), {})
    assert all(cell["published"] == [] for cell in cells)


def test_what_is_searched_leaves_no_protocol() -> None:
    plain = {
        "name": "searching",
        "question": "Which rate?",
        "grid": {"method.name": ["sd_lora"]},
        "fixed": {"data.name": "cifar100", "data.image_size": 32, "data.grey": True},
        "search": {"sd_lora": {"optim.lr": None}},
    }
    _, record = opening_records(make_plan(StudySpec.from_plain(plain, "test")), {})
    (row,) = record["published"]
    named = {departure.split()[0] for departure in row["departures"]}
    assert named >= {"optim.epochs", "optim.optimizer", "data.image_size", "backbone.name"}
    assert "optim.lr" not in named
