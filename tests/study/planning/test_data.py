"""The data of a study before it starts: checked, pinned, prepared, or refused in one message."""

import os
from pathlib import Path

import numpy as np
import pytest
import yaml

from study import run
from study.ledger import History, Journal
from study.planning.cells import Plan
from study.planning.costs.trial_cost import ROLES
from study.planning.data import (
    data_configs,
    data_splits,
    data_warnings,
    late_warnings,
    pinned,
    sizes_by_hash,
)
from study.planning.openings import opening_records
from study.planning.plan import load_plan
from tests.study.small_study import FIXED, small_plan, write_npz
from trainables.config import TrialConfig
from trainables.data.sources import load_arrays
from trainables.data.stream import class_incremental


def data_hashes(plan: Plan, elsewhere: bool = False) -> dict[str, str]:
    return {name: split.sha256 for name, split in data_splits(plan, lambda: elsewhere).items()}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with mine.npz: three grey classes of twenty images."""
    labels = np.arange(60) % 3
    images = np.full((60, 8, 8), 255, np.uint8) // (1 + labels[:, None, None].astype(np.uint8))
    images[:, 0, 0] = np.arange(60)  # none comes twice
    (tmp_path / "data").mkdir()
    np.savez(tmp_path / "data" / "mine.npz", images=images, labels=labels)
    monkeypatch.setenv("LRCS_CACHE_ROOT", str(tmp_path / "cache"))
    monkeypatch.setenv("LRCS_DATA_ROOT", str(tmp_path / "data"))
    monkeypatch.setenv("RAY_ADDRESS", "local")
    return tmp_path / "data"


@pytest.fixture
def study_file(root: Path, tmp_path: Path) -> Path:
    fixed = {key: value for key, value in FIXED.items() if not key.startswith("data.")}
    study = {
        "name": "small",
        "question": "Does it run?",
        "grid": {"method.name": ["sequential", "nearest_mean"], "data.tasks": [1, 3]},
        "fixed": {**fixed, "data.name": "npz:mine", "data.image_size": 8},
        "trials": 1,
        "seeds": [0],
    }
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(study, sort_keys=False), encoding="utf-8")
    return path


def test_prepare_says_what_it_found_and_pins_it(
    study_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run.main([str(study_file), "--prepare"]) == 0
    out = capsys.readouterr().out
    # Four cells read the same files in the same way.
    assert len(out.splitlines()) == 1
    assert "npz:mine: 3 classes, 48 training and 12 test images" in out
    (manifest,) = (tmp_path / "cache" / "manifests").iterdir()
    assert str(manifest) in out
    pinned = ["--set", f"data.manifest={manifest}"]
    assert run.main([str(study_file), "--prepare", *pinned]) == 0


def test_what_a_person_should_know_of_the_data_is_said_and_recorded(
    study_file: Path, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = np.random.default_rng(0).integers(0, 255, (60, 8, 8), dtype=np.uint8)
    images[50] = images[0]
    split = ["train"] * 45 + ["test"] * 15
    labels = np.arange(60) % 3
    np.savez(root / "mine.npz", images=images, labels=labels, split=split, masks=labels)
    plan = load_plan(study_file)
    splits = data_splits(plan, lambda: False)
    (unread,) = data_warnings(splits)
    assert unread.startswith("npz:mine: 1 array is not read: 'masks'")
    assert late_warnings(plan, splits) == [unread]
    capsys.readouterr()
    assert run.main([str(study_file), "--prepare"]) == 0
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning: ")]
    assert [f"warning: {text}" for text in late_warnings(plan, splits)] == said
    assert len(said) == 3
    decoded = data_splits(plan, lambda: False)
    assert (data_warnings(decoded), late_warnings(plan, decoded)) == (
        [text.removeprefix("warning: ") for text in said],
        [],
    )
    history = History()
    journal = Journal(lambda record: {**record, "time": 0.0}, history)
    for _ in range(2):
        journal.warn(data_warnings(decoded))
    assert len(history.warnings) == 3
    (root / "mine.npz").unlink()
    assert late_warnings(plan, splits) == []


def test_prepare_removes_caches_that_nobody_opens(
    study_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run.main([str(study_file), "--prepare"]) == 0
    (folder,) = (path for path in (tmp_path / "cache").glob("npz_mine-*") if path.is_dir())
    for path in (*folder.iterdir(), folder):
        os.utime(path, (0, 0))
    # It opens this cache, and so keeps it; inverted images have another.
    assert run.main([str(study_file), "--prepare"]) == 0
    for path in (*folder.iterdir(), folder):
        os.utime(path, (0, 0))
    capsys.readouterr()
    assert run.main([str(study_file), "--prepare", "--set", "data.invert=true"]) == 0
    prepared, removed = capsys.readouterr().out.splitlines()
    assert prepared.startswith("npz:mine: 3 classes")
    assert removed.startswith(f"removed {folder}: 0.0 MiB, unused for ")
    assert not folder.exists()


def test_the_split_is_recorded_by_its_hash(study_file: Path) -> None:
    plan = load_plan(study_file)
    hashes = data_hashes(plan)
    assert list(hashes) == ["npz:mine"]
    assert opening_records(plan, hashes)[0]["data"] == hashes
    changed = load_plan(study_file, ["data.split=random"])
    assert list(data_hashes(changed).values()) != list(hashes.values())


def test_data_without_files_is_pinned_as_well(
    study_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change = "data.name=[icons,gaussian]"
    size = ["--set", "data.image_size=32", "--set", "backbone.name=compact_vit"]
    assert run.main([str(study_file), "--prepare", "--set", change, *size]) == 0
    icons, gaussian = capsys.readouterr().out.splitlines()
    assert icons.startswith("icons: 315 classes, 10792 training and 4620 test images; split ")
    assert gaussian.startswith("gaussian: 64 classes, 1280 training and 640 test images; split ")
    written = sorted(path.name for path in (tmp_path / "cache" / "manifests").iterdir())
    assert [name.partition("-")[0] for name in written] == ["gaussian", "icons"]
    changes = [change, "data.image_size=32", "backbone.name=compact_vit", "data.tasks=[1,3]"]
    hashes = data_hashes(load_plan(study_file, changes))
    assert list(hashes) == ["icons", "gaussian"]
    pins = [name.rpartition("-")[2].partition(".")[0] for name in written]
    assert sorted(pins) == sorted(sha256[:12] for sha256 in hashes.values())


def test_the_strength_of_a_rendition_is_an_axis(
    study_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = ["data.name=gaussian", "data.rendition=street", "data.rendition_strength=[0,0.5,1]"]
    plan = load_plan(study_file, changes)
    hashes = data_hashes(plan)
    strengths = ["0.0", "0.5", "1.0"]
    assert list(hashes) == [f"gaussian street {strength}" for strength in strengths]
    trials = [cell.trial("confirm", {}, 0).params for cell in pinned(plan, hashes).cells]
    assert len(trials) == 12
    for params in trials:
        strength = params["data.rendition_strength"]
        assert params["data.split_sha256"] == hashes[f"gaussian street {strength}"]
    assert len(set(hashes.values())) == 3
    sets = [word for change in changes for word in ("--set", change)]
    assert run.main([str(study_file), "--prepare", *sets]) == 0
    said = capsys.readouterr().out.splitlines()
    for line, strength in zip(said, strengths, strict=True):
        assert line.startswith(f"gaussian, street {strength}: 64 classes, 1280 training and 640 te")
    kept = [path for path in (tmp_path / "cache").glob("gaussian_street-*") if path.is_dir()]
    assert len(kept) == 3
    # Where none is drawn a strength is a mistake, found with the study file.
    assert run.main([str(study_file), "--validate", *sets[:2], *sets[4:]]) == 2
    assert "data.rendition_strength must be 1.0 for gaussian" in capsys.readouterr().err


def test_every_cell_is_pinned_to_the_split_that_it_reads(study_file: Path) -> None:
    plan = load_plan(study_file, ["data.split=[random,stratified]"])
    hashes = data_hashes(plan)
    assert list(hashes) == ["npz:mine split random", "npz:mine split stratified"]
    ids = [cell.trial("search", {}, 0).id for cell in plan.cells]
    trials = [cell.trial("search", {}, 0) for cell in pinned(plan, hashes).cells]
    assert [trial.id for trial in trials] == ids
    assert len(set(hashes.values())) == 2
    for trial in trials:
        named = f"npz:mine split {trial.params['data.split']}"
        assert trial.params["data.split_sha256"] == hashes[named]
        # Whatever share of its images a trial is given, it reads that split.
        few = {**trial.params, "data.classes": 2, "data.tasks": 1, "data.train_per_class": 3}
        assert load_arrays(TrialConfig.from_params(few).data).class_names == ("0", "1", "2")


def test_a_study_plans_and_records_what_it_did_before_sets_named_validation_images(
    root: Path,
) -> None:
    fixed = write_npz(root)
    del fixed["data.name"]
    axes = {"method.name": ["sequential"], "data.tasks": [3], "data.name": ["npz:mine", "gaussian"]}
    plan = small_plan(grid=axes, fixed={**fixed, "data.classes": 3})
    # All of these are of the release 7ecf164.
    assert [[cell.trial(role, {}, 0).id for role in ROLES] for cell in plan.cells] == [
        ["c18f3776434e818d", "c3263a71c98f9ae0"],
        ["48df37a85cf0d2ca", "86be058e5c37e320"],
    ]
    assert sizes_by_hash(data_splits(plan, lambda: False)) == {
        "ee99d35a33f31baeacb298cc2f6735118496a71db334ba54b437b82965ea9bd3": {
            "classes": 3, "train": 48, "test": 12,
        },
        "503996201b764b02d5af4675b46cd4a41d6fcf4394fccd17ba47dff6293f3549": {
            "classes": 64, "train": 1280, "test": 640,
        },
    }  # fmt: skip


def test_validation_images_that_are_named_are_counted_and_their_share_is_refused(
    study_file: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with np.load(root / "mine.npz") as saved:
        arrays = dict(saved)
    split = np.repeat(["train", "val", "test"], [30, 12, 18])
    np.savez(root / "mine.npz", **arrays, split=split)
    plan = load_plan(study_file)
    (sizes,) = sizes_by_hash(data_splits(plan, lambda: False)).values()
    assert sizes == {"classes": 3, "train": 30, "validation": 12, "test": 18}
    configs = [plan.cells[0].config(role, {}, 0).data for role in ROLES]
    tasks = [class_incremental(config, seed=0)[0] for config in configs]
    assert [(len(task.train), len(task.held_out)) for task in tasks] == [(30, 12), (42, 18)]
    assert run.main([str(study_file), "--prepare"]) == 0
    assert "3 classes, 30 training, 12 validation and 18 test images" in capsys.readouterr().out
    assert run.main([str(study_file), "--validate", "--set", "data.validation_share=0.3"]) == 2
    assert "data.validation_share must be 0.2 for npz:mine, which" in capsys.readouterr().err


def test_a_trial_refuses_images_that_came_after_the_study_started(
    study_file: Path, root: Path
) -> None:
    plan = load_plan(study_file)
    hashes = data_hashes(plan)
    params = pinned(plan, hashes).cells[0].trial("confirm", {}, 0).params
    with np.load(root / "mine.npz") as saved:
        images, labels = saved["images"], saved["labels"]
    more = np.concatenate([images, images[:3]]), np.concatenate([labels, labels[:3]])
    np.savez(root / "mine.npz", images=more[0], labels=more[1])
    other = data_hashes(plan)["npz:mine"]
    assert other != hashes["npz:mine"]
    message = (
        f"npz:mine must have the split {hashes['npz:mine']} that was recorded when the study "
        rf"started .*, but on this machine it has {other}: .* start the study again\."
    )
    with pytest.raises(ValueError, match=message):
        load_arrays(TrialConfig.from_params(params).data)


@pytest.mark.parametrize("action", [[], ["--prepare"]])
def test_missing_files_are_a_mistake_before_anything_starts(
    action: list[str], study_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    change = ["--set", "data.name=fashion_mnist", "--set", f"data.root={tmp_path}"]
    where = [] if action else ["--output", str(output)]
    assert run.main([str(study_file), *action, *change, *where]) == 2
    error = capsys.readouterr().err
    assert "fashion-mnist/train-images-idx3-ubyte.gz" in error
    assert "dataset-fashion-mnist" in error
    assert not output.exists()


def test_a_driver_without_the_files_leaves_them_to_the_nodes(
    study_file: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = load_plan(study_file, ["data.name=cifar100", "data.grey=true"])
    with pytest.raises(ValueError, match="cifar-100-python/train"):
        data_hashes(plan)
    assert data_hashes(plan, elsewhere=True) == {}
    # Trials take what they find then.
    trials = [cell.trial("confirm", {}, 0) for cell in pinned(plan, {}).cells]
    assert {trial.params["data.split_sha256"] for trial in trials} == {None}
    # Files that are there and wrong are a mistake in any case.
    np.savez(root / "mine.npz", images=np.zeros((3, 8, 8), np.uint8), labels=np.arange(3))
    with pytest.raises(ValueError, match="npz:mine"):
        data_hashes(load_plan(study_file, ["data.tasks=1"]))


def test_nothing_is_decoded_where_the_cache_is_off(study_file: Path, tmp_path: Path) -> None:
    # As README and study files write it, which YAML takes for a truth value.
    assert run.main([str(study_file), "--prepare", "--set", "data.cache=off"]) == 0
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["manifests"]


def test_every_cap_of_the_training_images_is_checked(study_file: Path) -> None:
    caps = ["data.train_per_class=[8,4]", "data.validation_share=0.8"]
    plan = load_plan(study_file, caps)
    assert [config.train_per_class for config in data_configs(plan)] == [8, 4]
