"""Names of classes in archives: decoded where that is certain, else refused with file and key."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from tests.trainables.data_sets import trees
from tests.trainables.data_sets.loaders.test_loaders import write_npz
from trainables.data_sets.loaders import cifar, cub, list_files, npz


@pytest.mark.parametrize(
    ("names", "read"),
    [
        ([b"cat", b"dog"], ("cat", "dog")),
        (["Käse".encode(), "犬".encode()], ("Käse", "犬")),
        ([3, 7], ("3", "7")),
        (["a\tb", "# class: x\n"], ("a\tb", "# class: x\n")),
    ],
)
def test_names_are_text(names: list[object], read: tuple[str, ...], tmp_path: Path) -> None:
    split = [b"train"] * 4 + [b"test"] * 4
    listing = npz.read(write_npz(tmp_path / "mine.npz", class_names=names, split=split), 3, None)
    assert listing.class_names == read
    assert [item.split for item in listing.items] == ["train"] * 4 + ["test"] * 4


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["cat", "cat"], r"differ, but numbers 0 and 1 are 'cat'"),
        ([b"cat", "cat".encode("utf-16-le")], r"be text or its UTF-8 bytes, but number 1"),
        (["cat", ""], r"not be empty, but number 1 is ''"),
        ([b"", b"cat"], r"not be empty, but number 0 is b''"),
        (["cat", " \t"], r"not be empty, but number 1"),
        (
            [b"cat", "Käse".encode("latin-1")],
            r"be text or its UTF-8 bytes, but number 1 is b'K\\xe4se' \(in Latin-1 'Käse'\)",
        ),
        (["cat", "\ud800"], r"be text or its UTF-8 bytes, but number 1 is '\\ud800'"),
        ([["cat"], ["dog"]], "be texts, one per class"),
        ("cat", "be texts, one per class"),
        ([(1, 2.0), (3, 4.0)], "be texts, one per class"),
        (np.array([(1, 2)] * 2, [("x", int), ("y", int)]), "be texts, one per class"),
    ],
)
def test_names_that_say_nothing_are_refused(names: object, message: str, tmp_path: Path) -> None:
    file = write_npz(tmp_path / "mine.npz", class_names=names)
    with pytest.raises(ValueError, match=rf"mine\.npz: class_names must {message}"):
        npz.read(file, 3, None)


def test_labels_far_above_the_images_are_refused_at_once(tmp_path: Path) -> None:
    labels = np.array([0] * 7 + [2**62])
    with pytest.raises(ValueError, match="labels must be 0, 1, … with an image each, but 8 images"):
        npz.read(write_npz(tmp_path / "mine.npz", labels=labels, class_names=None), 3, None)


@pytest.mark.parametrize(("names", "rule"), [([b"a", b"a"], "differ"), ([b"\xe4", b"b"], "text")])
def test_names_of_cifar_are_checked(names: list[bytes], rule: str, tmp_path: Path) -> None:
    trees.cifar(tmp_path, train=2, test=2, classes=2)
    folder = tmp_path / "cifar-100-python"
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": names}))
    with pytest.raises(ValueError, match=rf"meta: fine_label_names must .*{rule}"):
        cifar.read(folder, 3, None)


def test_lists_end_their_lines_at_line_feeds_alone(tmp_path: Path) -> None:
    """File names may hold other signs that Python takes for the end of a line."""
    birds = trees.cub(tmp_path, classes=2, images=2)
    (birds / "images/001.Bird_1/Bird_1_0000.jpg").rename(birds / "images/001.Bird_1/a\u2028b.jpg")
    lines = (birds / "images.txt").read_text().replace("Bird_1_0000.jpg", "a\u2028b.jpg")
    (birds / "images.txt").write_text(lines, encoding="utf-8")
    assert cub.read(birds, 3, 2).items[0].path == "images/001.Bird_1/a\u2028b.jpg"
    drawings = trees.domainnet(tmp_path, list_files.DOMAINS, classes=2)
    trees.photograph(drawings / "real/thing_0/a\x85b.jpg", 0)
    with (drawings / "real_test.txt").open("a", encoding="utf-8") as file:
        file.write("real/thing_0/a\x85b.jpg 0\n")
    assert "real/thing_0/a\x85b.jpg" in {
        item.path for item in list_files.read(drawings, 3, 2).items
    }
