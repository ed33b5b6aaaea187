"""What was published: rows for data and tasks, and where a trial leaves their protocol."""

from pathlib import Path
from typing import Any

import pytest

from study import provenance, published, run
from study.planning import make_plan
from study.published_results import RESULTS
from study.spec import StudySpec
from trainables import catalog

SPECS = Path(run.__file__).parent / "specs"
PAPERS = sorted(SPECS.glob("paper_*.yaml"))


def params_of(path: Path) -> list[dict[str, Any]]:
    """The settings of one confirmation of every cell, as a ledger has them but for its lists."""
    return [
        dict(cell.trial("confirm", {}, cell.seeds[0]).params)
        for cell in make_plan(StudySpec.load(path)).cells
    ]


def test_rows_are_shares_and_their_names_exist() -> None:
    for row in RESULTS:
        info = catalog.DATASETS[row.data]
        assert 1 / info.classes < row.final < 1
        assert row.anytime is None or row.final < row.anytime < 1
        assert row.final_std is None or 0 < row.final_std < 0.05
        assert row.method is None or row.method in catalog.methods()


def test_a_row_is_found_by_method_data_and_tasks() -> None:
    params = {"method.name": "sd_lora_kd", "data.name": "imagenet_r", "data.tasks": 20}
    (row,) = published.results(params)
    assert (row.final, row.anytime, row.family) == (0.7412, 0.8011, "sd_lora")
    assert {one.label for one in published.context(params)} >= {"L2P", "Full fine-tuning"}
    assert published.results({**params, "data.tasks": 19}) == ()
    assert published.results({**params, "method.name": "joint"}) == ()


@pytest.mark.parametrize("key", published.CUTS)
def test_cut_data_are_other_data(key: str) -> None:
    params = {"method.name": "sd_lora", "data.name": "cifar100", "data.tasks": 10}
    assert published.results({**params, key: None})
    assert published.results({**params, key: 50}) == ()
    assert published.context({**params, key: 50}) == ()


@pytest.mark.parametrize("path", PAPERS, ids=lambda path: path.stem)
def test_every_paper_study_has_a_published_number_and_its_protocol(path: Path) -> None:
    family = "inflora" if path.stem.endswith("_inflora") else "sd_lora"
    header = path.read_text(encoding="utf-8")
    found = 0
    for params in params_of(path):
        rows = [one for one in published.results(params) if one.family == family]
        for row in rows:
            assert published.departures(row, params) == ()
            assert f"{100 * row.final:.2f}" in header
            assert row.anytime is None or f"{100 * row.anytime:.2f}" in header
        found += len(rows)
    assert found == sum(
        (one.data, one.tasks) in {(p["data.name"], p["data.tasks"]) for p in params_of(path)}
        for one in RESULTS
        if one.method is not None and one.family == family
    )


def test_what_leaves_the_protocol_is_named() -> None:
    (params,) = params_of(SPECS / "paper_cifar100_inflora.yaml")
    changed = {**params, "optim.epochs": 5, "backbone.name": "vit_small_patch16_224"}
    row = next(one for one in published.results(changed) if one.source.endswith("logs"))
    assert published.departures(row, changed) == (
        "backbone.name is vit_small_patch16_224, published with vit_base_patch16_224.augreg_in21k",
        "optim.epochs is 5, published with 20",
    )


def test_training_that_the_source_does_not_state_is_not_compared() -> None:
    cells = params_of(SPECS / "paper_imagenet_a.yaml")
    params = next(one for one in cells if one["method.name"] == "inflora")
    (row,) = published.results(params)
    assert not row.training_stated
    assert published.departures(row, {**params, "optim.epochs": 1}) == ()
    assert published.departures(row, {**params, "data.crop_scale": 0.5}) == (
        "data.crop_scale is 0.5, published with 0.05",
    )


def test_the_ledger_holds_them_for_the_report() -> None:
    spec = StudySpec.load(SPECS / "paper_cifar100_inflora.yaml", ["optim.epochs=3"])
    _, record = provenance.opening_records(make_plan(spec), {})
    assert [one["final"] for one in record["published"]] == [0.8651, 0.8633]
    assert record["published"][0]["departures"] == ["optim.epochs is 3, published with 20"]
    small = StudySpec.load(SPECS / "quickstart.yaml")
    assert all("published" not in one for one in provenance.opening_records(make_plan(small), {}))


def test_what_is_searched_leaves_no_protocol() -> None:
    plain = {
        "name": "searching",
        "question": "Which rate?",
        "grid": {"method.name": ["sd_lora"]},
        "fixed": {"data.name": "cifar100", "data.image_size": 32, "data.grey": True},
        "search": {"sd_lora": {"optim.lr": None}},
    }
    _, record = provenance.opening_records(make_plan(StudySpec.from_plain(plain, "test")), {})
    (row,) = record["published"]
    named = {one.split()[0] for one in row["departures"]}
    assert named >= {"optim.epochs", "optim.optimizer", "data.image_size", "backbone.name"}
    assert "optim.lr" not in named
