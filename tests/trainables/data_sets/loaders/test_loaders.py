"""Every format, read from a small tree in exactly the published layout."""

import dataclasses
import gzip
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.trainables.data_sets import trees
from trainables.config import DataConfig
from trainables.data.prepare import index_of
from trainables.data_sets import file_sets
from trainables.data_sets.file_sets import read_index
from trainables.data_sets.index import SPLITS, ImageIndex
from trainables.data_sets.loaders import cub, list_files, npz

WNIDS = [f"n{number:08d}" for number in range(200)]


def counts(index: ImageIndex) -> tuple[set[int], set[int]]:
    """How many training and test images the classes have."""
    return set(index.counts("train").tolist()), set(index.counts("test").tolist())


@pytest.mark.parametrize(
    ("name", "folder"), [("imagenet_r", "imagenet-r"), ("imagenet_a", "imagenet-a")]
)
def test_two_hundred_class_folders_split_at_random(name: str, folder: str, tmp_path: Path) -> None:
    trees.class_folders(tmp_path / folder, WNIDS, images=5)
    index = read_index(name, str(tmp_path), "stratified")
    assert index.class_names == tuple(WNIDS)
    assert counts(index) == ({4}, {1})
    entry = index.entries[5]
    assert (entry.path, entry.label) == ("n00000001/art_0.jpg", 1)
    assert index.decode(entry).shape == (9, 12, 3)
    with pytest.raises(ValueError, match=r"data\.split must be random or stratified where"):
        read_index(name, str(tmp_path), "published")


def test_the_random_rule_takes_eighty_percent_of_all_images(tmp_path: Path) -> None:
    trees.class_folders(tmp_path / "mine", ["a", "b", "c"], images=35)
    index = read_index("folder:mine", str(tmp_path), "random")
    assert len(index.rows("train")) == 84
    # No class is looked at: 28 of each would be the other rule's.
    assert index.counts("train").tolist() != [28, 28, 28]
    assert read_index("folder:mine", str(tmp_path), "random").entries == index.entries


def test_folders_train_and_test_are_the_published_split(tmp_path: Path) -> None:
    root = tmp_path / "imagenet-r"
    trees.class_folders(root / "train", WNIDS, images=2)
    trees.class_folders(root / "test", WNIDS, images=1, suffix=".png")
    index = read_index("imagenet_r", str(tmp_path))
    assert counts(index) == ({2}, {1})
    assert {entry.path.split("/")[0] for entry in index.entries} == {"train", "test"}


def test_cub(tmp_path: Path) -> None:
    trees.cub(tmp_path, classes=200, images=2)
    index = read_index("cub200", str(tmp_path))
    assert counts(index) == ({1}, {1})
    assert index.class_names[0] == "001.Bird_1"
    first = index.entries[0]
    assert (first.path, first.split) == ("images/001.Bird_1/Bird_1_0000.jpg", "test")
    assert index.decode(first).shape == (9, 12, 3)


def test_domainnet(tmp_path: Path) -> None:
    trees.domainnet(tmp_path, list_files.DOMAINS, classes=3)
    listing = list_files.read(tmp_path / "domainnet", 3, 3)
    assert listing.class_names == ("thing_0", "thing_1", "thing_2")
    assert len(listing.items) == 6 * 2 * 3
    first = listing.items[0]
    assert (first.path, first.split) == ("clipart/thing_0/clipart_000_000000.jpg", "train")
    stat = (tmp_path / "domainnet" / first.path).stat()
    assert first.content == f"{stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns}"
    with pytest.raises(ValueError, match=r"class 'class 3' has none in train \(342 of 345"):
        read_index("domainnet", str(tmp_path))


@pytest.mark.parametrize("packed", [True, False])
def test_fashion_mnist(packed: bool, tmp_path: Path) -> None:
    folder = trees.idx(tmp_path, per_class=3)
    if not packed:
        for file in list(folder.glob("*.gz")):
            file.with_suffix("").write_bytes(gzip.decompress(file.read_bytes()))
            file.unlink()
    index = read_index("fashion_mnist", str(tmp_path))
    assert counts(index) == ({3}, {3})
    images = np.random.default_rng(0).integers(0, 256, (30, 28, 28), np.uint8)
    assert np.array_equal(index.decode(index.entries[12])[..., 0], images[12])
    assert index.entries[12].label == 2


def test_fashion_mnist_is_found_where_debian_puts_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = trees.idx(tmp_path, per_class=2)
    monkeypatch.delenv(file_sets.ROOT_VARIABLE, raising=False)
    files = file_sets.known.DATASETS["fashion_mnist"].files
    assert files is not None and files.system == "/usr/share/datasets/fashion-mnist"
    if not Path(files.system).exists():
        with pytest.raises(ValueError, match="Debian's package dataset-fashion-mnist"):
            read_index("fashion_mnist", None)
    monkeypatch.setenv(file_sets.ROOT_VARIABLE, str(tmp_path))
    assert read_index("fashion_mnist", None).root == folder


def test_a_torn_idx_file_is_named(tmp_path: Path) -> None:
    folder = trees.idx(tmp_path, per_class=2)
    file = folder / "t10k-images-idx3-ubyte.gz"
    file.write_bytes(file.read_bytes()[:200])
    index = read_index("fashion_mnist", str(tmp_path))
    with pytest.raises(ValueError, match=r"t10k-images-idx3-ubyte\.gz cannot be read"):
        index.decode(index.entries[0])


def test_digits_come_with_scikit_learn_or_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sklearn")
    index = read_index("digits", None)
    image = index.decode(index.entries[0])
    assert (len(index.entries), image.shape, image.max() > 200) == (1797, (8, 8, 1), True)
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ValueError, match="needs scikit-learn, which is not installed"):
        read_index("digits", None)


def write_npz(path: Path, **changes: object) -> Path:
    arrays: dict[str, object] = {
        "images": np.arange(8 * 4 * 5 * 3, dtype=np.uint8).reshape(8, 4, 5, 3),
        "labels": np.array([0, 1, 0, 1, 0, 1, 0, 1]),
        "split": np.array(["train"] * 4 + ["test"] * 4),
        "class_names": np.array(["cat", "dog"]),
        **changes,
    }
    kept = {key: np.asarray(array) for key, array in arrays.items() if array is not None}
    np.savez(path, allow_pickle=True, **kept)
    return path


def test_npz_without_a_split_is_stratified_and_may_be_grey(tmp_path: Path) -> None:
    write_npz(tmp_path / "mine.npz")
    index = read_index("npz:mine", str(tmp_path))
    assert index.class_names == ("cat", "dog")
    assert (index.channels, counts(index)) == (3, ({2}, {2}))
    assert np.array_equal(index.decode(index.entries[5]).ravel(), np.arange(300, 360) % 256)
    write_npz(tmp_path / "mine.npz", images=np.zeros((8, 4, 5), np.uint8), split=None)
    index = read_index("npz:mine", str(tmp_path))
    assert (index.channels, counts(index)) == (1, ({3}, {1}))


@pytest.mark.parametrize("word", ["validation", "val", "valid", b"val"])
def test_npz_may_name_its_validation_images(word: str | bytes, tmp_path: Path) -> None:
    kind = np.array([word]).dtype.kind
    split = np.repeat(["train", "test"], 4).astype(f"{kind}10")
    split[2:4] = word
    write_npz(tmp_path / "mine.npz", split=split)
    index = read_index("npz:mine", str(tmp_path))
    assert [index.counts(part).tolist() for part in SPLITS] == [[1, 1], [1, 1], [2, 2]]
    # Another rule parts all images anew.
    assert not len(read_index("npz:mine", str(tmp_path), "stratified").rows("validation"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": [0, 1]}, "labels must be 8 whole numbers"),
        ({"labels": [0, 1, 0, 1, 0, 1, 0, 5]}, r"labels must be in \[0, 1\], but row 7 has 5"),
        ({"images": np.zeros((8, 4, 5, 3))}, "images must be uint8"),
        ({"images": np.zeros((8, 4, 5, 2), np.uint8)}, "1 or 3 channels"),
        (
            {"split": ["train"] * 7 + ["dev"]},
            r"split must be 'train', 'validation' \(or 'val', 'valid'\) or .*, but has 'dev'",
        ),
        ({"split": [["train"] * 8]}, r"each of 8 images, but is of shape \(1, 8\)"),
        ({"images": np.array([None] * 8)}, "images must be uint8"),
        ({"labels": np.array([None] * 8)}, "must be a .npz file of plain arrays"),
        ({"images": None}, r"one named images: .*no item named 'images\.npy'"),
    ],
)
def test_a_wrong_npz_is_named(changes: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        npz.read(write_npz(tmp_path / "mine.npz", **changes), 3, None)


@pytest.mark.parametrize(
    "name",
    ["cifar100", "imagenet_r", "imagenet_a", "cub200", "domainnet", "fashion_mnist", "folder:x"],
)
def test_missing_files_say_what_is_expected_and_where_it_is_from(name: str, tmp_path: Path) -> None:
    files = file_sets._facts(name)[1]
    with pytest.raises(ValueError, match=r"must lie below data\.root") as caught:
        read_index(name, str(tmp_path))
    message = str(caught.value)
    assert str(tmp_path / files.places[0].format(name="x")) in message
    assert files.layout.format(name="x") in message
    assert files.origin in message


@pytest.mark.parametrize("kept", [20, -300])
def test_a_corrupt_image_is_named(kept: int, tmp_path: Path) -> None:
    trees.class_folders(tmp_path / "mine", ["a", "b"], images=2)
    file = tmp_path / "mine" / "a" / "art_1.jpg"
    trees.photograph(file, 0, (200, 200))
    file.write_bytes(file.read_bytes()[:kept])
    index = read_index("folder:mine", str(tmp_path))
    (broken,) = (entry for entry in index.entries if entry.path == "a/art_1.jpg")
    with pytest.raises(ValueError, match=r"mine/a/art_1\.jpg must be an image that can be read"):
        index.decode(broken)


def test_a_class_that_the_split_leaves_empty_is_named(tmp_path: Path) -> None:
    trees.class_folders(tmp_path / "mine" / "train", ["a", "b"], images=2)
    trees.class_folders(tmp_path / "mine" / "test", ["a"], images=2)
    with pytest.raises(ValueError, match=r"class 'b' has none in test \(1 of 2 classes"):
        read_index("folder:mine", str(tmp_path))


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("clipart/thing_0/x.jpg 9\n", r"line 1: labels must be in \[0, 3\], but got 9"),
        ("clipart/thing_0/x.jpg\n", "line 1: must be 'domain/class/image label'"),
        ("clipart/../../thing_0/x.jpg 0\n", "line 1: must be 'domain/class/image label'"),
        ("clipart/thing_0/none.jpg 0\n", r"thing_0/none\.jpg must be there, but is not"),
        ("clipart/thing_1/x.jpg 0\n", "label 0 must be class 'thing_0', but is 'thing_1'"),
        ("clipart/thing_0/x.jpg 3\n", "one label, but 'thing_0' has 0 and 3"),
    ],
)
def test_a_wrong_list_is_named_with_its_line(lines: str, message: str, tmp_path: Path) -> None:
    folder = trees.domainnet(tmp_path, list_files.DOMAINS, classes=3)
    trees.photograph(folder / "clipart" / "thing_0" / "x.jpg", 0)
    (folder / "clipart_test.txt").write_text(lines, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        list_files.read(folder, 3, 4)


@pytest.mark.parametrize(
    ("file", "line", "message"),
    [
        ("image_class_labels.txt", "1 7\n", r"labels must be in \[1, 3\], but image 1 has 7"),
        ("image_class_labels.txt", "1 2\n", "must have a number for image 2"),
        ("train_test_split.txt", "what\n", "line 1: must be 'number value'"),
        ("images.txt", "1 001.Bird_1/none.jpg\n", r"none\.jpg must be there"),
        ("train_test_split.txt", "1 2\n", r"or 0 \(test\), but image 1 has 2"),
        ("images.txt", "1 001.Bird_1/Bird_1_0000.jpg\n3 001.Bird_1/Bird_1_0001.jpg\n", "one label"),
    ],
)
def test_wrong_lists_of_cub_are_named(file: str, line: str, message: str, tmp_path: Path) -> None:
    folder = trees.cub(tmp_path, classes=3, images=2)
    (folder / file).write_text(line, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        cub.read(folder, 3, 3)


@pytest.mark.parametrize("content", [None, b"1 \xff\n"])
def test_lists_that_are_missing_or_no_text_are_named(content: bytes | None, tmp_path: Path) -> None:
    birds = trees.cub(tmp_path, classes=2, images=2)
    drawings = trees.domainnet(tmp_path, list_files.DOMAINS, classes=2)
    for read, file, expected in (
        (cub.read, birds / "image_class_labels.txt", "lines 'number value'"),
        (list_files.read, drawings / "real_test.txt", "lines 'domain/class/image label'"),
    ):
        if content is None:
            file.unlink()
        else:
            file.write_bytes(content)
        with pytest.raises(ValueError, match=rf"{file.name} must .* UTF-8, with {expected}"):
            read(file.parent, 3, 2)


def test_images_can_be_made_grey_and_inverted(tmp_path: Path) -> None:
    write_npz(tmp_path / "mine.npz")
    plain = DataConfig(name="npz:mine", root=str(tmp_path), tasks=1)
    index = index_of(plain)
    changed = index_of(dataclasses.replace(plain, grey=True, invert=True))
    entry = index.entries[3]
    colours = index.decode(entry)
    expected = np.asarray(Image.fromarray(colours).convert("L"), np.int64)
    got = 255 - changed.decode(entry)[..., 0].astype(np.int64)
    assert np.abs(got - expected).max() <= 1
    assert (changed.channels, index.channels) == (1, 3)
    assert changed.fingerprint != index.fingerprint


def test_a_decoder_can_be_pickled_without_its_arrays(tmp_path: Path) -> None:
    trees.idx(tmp_path, per_class=50)
    index = read_index("fashion_mnist", str(tmp_path))
    image = index.decode(index.entries[0])
    content = pickle.dumps(index.decode)
    assert len(content) < 1000
    assert np.array_equal(pickle.loads(content)(index.entries[0]), image)
