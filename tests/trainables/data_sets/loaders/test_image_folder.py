"""Class folders: which trees are refused, and which links are followed."""

import os
from pathlib import Path
from unittest.mock import Mock

import pytest

from tests.trainables.data_sets import trees
from trainables.data_sets.loaders import image_folder


def test_empty_class_folders_and_images_beside_them_are_refused(tmp_path: Path) -> None:
    trees.class_folders(tmp_path, ["a", "b"], images=1)
    (tmp_path / "c").mkdir()
    (tmp_path / ".hidden").mkdir()
    with pytest.raises(ValueError, match="every class folder must hold an image, but c does not"):
        image_folder.read(tmp_path, 3, None)
    trees.photograph(tmp_path / "loose.png", 0)
    with pytest.raises(ValueError, match=r"but loose\.png does not"):
        image_folder.read(tmp_path, 3, None)


def test_links_to_class_folders_are_followed(tmp_path: Path) -> None:
    trees.class_folders(tmp_path / "there", ["b"], images=2)
    trees.class_folders(tmp_path / "here", ["a"], images=2)
    (tmp_path / "here" / "b").symlink_to(tmp_path / "there" / "b")
    assert image_folder.read(tmp_path / "here", 3, None).class_names == ("a", "b")


@pytest.mark.parametrize("target", [".", "a", "../here"])
def test_a_folder_that_is_reached_twice_is_named(target: str, tmp_path: Path) -> None:
    """A loop, two links to one class, a link to the root."""
    trees.class_folders(tmp_path / "here", ["a"], images=2)
    (tmp_path / "here" / "b").symlink_to(target)
    with pytest.raises(ValueError, match=r"here/[ab] must be the only way to .*here"):
        image_folder.read(tmp_path / "here", 3, None)


def test_a_folder_in_training_and_test_is_named(tmp_path: Path) -> None:
    trees.class_folders(tmp_path / "train", ["a"], images=2)
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "a").symlink_to(tmp_path / "train" / "a")
    with pytest.raises(ValueError, match="its images would come twice"):
        image_folder.read(tmp_path, 3, None)


@pytest.mark.parametrize("name", ["c", "a/x.jpg"])
def test_a_link_that_leads_nowhere_is_named(name: str, tmp_path: Path) -> None:
    trees.class_folders(tmp_path, ["a", "b"], images=1)
    (tmp_path / name).symlink_to(tmp_path / "gone")
    with pytest.raises(ValueError, match=rf"{name} must be there, but is not"):
        image_folder.read(tmp_path, 3, None)


def test_a_folder_that_cannot_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trees.class_folders(tmp_path, ["a", "b"], images=1)
    refused = PermissionError(13, "Permission denied", str(tmp_path / "b"))
    monkeypatch.setattr(os, "scandir", Mock(side_effect=refused))
    with pytest.raises(ValueError, match="/b must be a folder that can be read"):
        image_folder.read(tmp_path, 3, None)


@pytest.mark.parametrize(
    "folders",
    [
        ["train"], ["test"], ["train", "val"], ["val", "test"], ["train", "test", "cat"],
        ["cat", "validation"], ["Train", "Test"], ["train", "Val", "test"],
        ["train", "val", "valid", "test"], ["train", "val", "test", "cat"],
    ],
)  # fmt: skip
def test_parts_of_a_set_are_not_taken_for_classes(folders: list[str], tmp_path: Path) -> None:
    for folder in folders:
        trees.class_folders(tmp_path / folder, ["a"], images=1)
    with pytest.raises(ValueError, match=r"must hold either train/CLASS/\*\.jpg … and test/CLASS"):
        image_folder.read(tmp_path, 3, None)


@pytest.mark.parametrize("name", ["validation", "val", "valid"])
def test_a_folder_may_hold_the_validation_images(name: str, tmp_path: Path) -> None:
    for folder in ("train", name, "test"):
        trees.class_folders(tmp_path / folder, ["val", "bus"], images=1)
    listing = image_folder.read(tmp_path, 3, None)
    assert listing.class_names == ("bus", "val")
    assert [item.split for item in listing.items[::2]] == ["train", "validation", "test"]
    assert listing.items[2].path == f"{name}/bus/art_0.jpg"


def test_a_class_may_be_named_train_within_the_parts(tmp_path: Path) -> None:
    for split in ("train", "test"):
        trees.class_folders(tmp_path / split, ["train", "bus"], images=1)
    listing = image_folder.read(tmp_path, 3, None)
    assert listing.class_names == ("bus", "train")
    assert [item.split for item in listing.items] == ["train", "train", "test", "test"]
    trees.photograph(tmp_path / "loose.png", 0)
    with pytest.raises(ValueError, match=r"but loose\.png does not"):
        image_folder.read(tmp_path, 3, None)
