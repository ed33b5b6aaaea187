import hashlib
import shutil
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from tests.trainables.data_sets import trees
from tests.trainables.data_sets.loaders.test_loaders import write_npz
from trainables.config import DataConfig
from trainables.data.prepare import checked_index, manifest_of, prepare
from trainables.data_sets.file_sets import read_index
from trainables.data_sets.index import SPLITS, Entry, Split
from trainables.data_sets.manifest import Manifest, read_manifest

MANIFEST = Manifest(
    "folder:mine",
    ("b", "a"),
    (
        Entry("a/art_0.jpg", 1, "test"),
        Entry("b/art_1.jpg", 0, "train"),
        Entry("b/art_0.jpg", 0, "test"),
        Entry("a/art_2.jpg", 1, "train"),
    ),
)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LRCS_CACHE_ROOT", str(tmp_path / "cache"))
    trees.class_folders(tmp_path / "data" / "mine", ["a", "b"], images=10)
    return tmp_path / "data"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "split.tsv"


def test_what_is_written_is_read(path: Path) -> None:
    rendered = replace(MANIFEST, rendition="street 0.5 0a")
    rendered.write(path)
    assert read_manifest(path) == rendered
    assert path.read_text(encoding="utf-8").splitlines()[3] == "# rendition: street 0.5 0a"
    MANIFEST.write(path)
    assert read_manifest(path) == MANIFEST
    assert rendered.sha256 != MANIFEST.sha256
    assert "b/art_1.jpg\t0\ttrain\n" in path.read_text(encoding="utf-8")
    assert list(path.parent.iterdir()) == [path]


def test_a_manifest_may_name_the_validation_images(root: Path, path: Path) -> None:
    parts: tuple[Split, ...] = ("train", "validation", "test", "train", "train")
    entries = tuple(
        Entry(f"{name}/art_{number}.jpg", label, parts[number % 5])
        for label, name in enumerate("ab")
        for number in range(10)
    )
    written = Manifest("folder:mine", ("a", "b"), entries)
    written.write(path)
    assert read_manifest(path) == written
    assert "a/art_1.jpg\t0\tvalidation\n" in path.read_text(encoding="utf-8")
    config = DataConfig(name="folder:mine", root=str(root), manifest=str(path), tasks=2)
    assert config.info.validation
    done = prepare(config)
    assert (done.sha256, done.train, done.validation, done.test) == (written.sha256, 12, 4, 4)
    assert "2 classes, 12 training, 4 validation and 4 test images; split" in str(done)


@pytest.mark.parametrize("word", ["val", "Train", ""])
def test_other_words_than_the_three_splits_are_refused(word: str, path: Path) -> None:
    entries = (*MANIFEST.entries, Entry("c", 0, cast(Split, word)))
    Manifest("folder:mine", ("b", "a"), entries).write(path)
    message = "line 10: must be path, label and train or validation or test between tabs, but got"
    with pytest.raises(ValueError, match=message):
        read_manifest(path)


def test_a_manifest_decides_images_labels_and_splits(root: Path, path: Path) -> None:
    entries = [
        Entry(f"{name}/art_{number}.jpg", label, "train" if number % 3 else "test")
        for name, label in (("a", 1), ("b", 0))
        for number in range(10)
    ]
    # The order of the lines changes nothing.
    for order in (1, -1):
        Manifest("folder:mine", ("b", "a"), tuple(entries[::order])).write(path)
        index = read_index("folder:mine", str(root), manifest=str(path))
        assert list(index.entries) == entries
        assert index.class_names == ("b", "a")


@pytest.mark.parametrize(
    ("classes", "more", "message"),
    [
        (("a", "a"), (), "every class must be listed once, but 'a' is twice"),
        (("a", "b"), (Entry("a/art_0.jpg", 0, "train"),), "'a/art_0.jpg' is twice"),
    ],
)
def test_what_comes_twice_is_refused(
    classes: tuple[str, ...], more: tuple[Entry, ...], message: str, path: Path
) -> None:
    Manifest("folder:mine", classes, (*MANIFEST.entries, *more)).write(path)
    with pytest.raises(ValueError, match=rf"split\.tsv: .*{message}"):
        read_manifest(path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("\ttest", "\ttrain"),
        ("# class: b", "# class: c"),
        ("art_2", "art_3"),
        ("a/art_2.jpg\t1\ttrain\n", ""),
    ],
)
def test_a_changed_or_cut_manifest_is_refused(old: str, new: str, path: Path) -> None:
    MANIFEST.write(path)
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(
        ValueError, match=r"split\.tsv must have the sha256 .* it was changed or cut"
    ):
        read_manifest(path)


@pytest.mark.parametrize("content", [b"", b"a\tb\n", b"\xff\xfe\n"])
def test_other_files_are_no_manifests(content: bytes, path: Path) -> None:
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"split\.tsv must"):
        read_manifest(path)


@pytest.mark.parametrize(
    ("name", "classes", "more", "message"),
    [
        (
            "folder:mine",
            ("a", "b"),
            (Entry("a/gone.jpg", 0, "train"),),
            r"lists 1 images that folder:mine does not have, .*gone",
        ),
        ("folder:mine", ("b", "a"), (), r"leaves out 16, the first a/art_1\.jpg"),
        ("folder:other", ("a", "b"), (), r"must be of folder:mine, but is of folder:other"),
    ],
)
def test_a_manifest_of_other_images_is_refused(
    name: str, classes: tuple[str, ...], more: tuple[Entry, ...], message: str,
    root: Path, path: Path,
) -> None:  # fmt: skip
    Manifest(name, classes, (*MANIFEST.entries, *more)).write(path)
    with pytest.raises(ValueError, match=message):
        read_index("folder:mine", str(root), manifest=str(path))


@pytest.mark.parametrize(
    "word",
    ["# class: b", "# class: b/art.jpg", "# name: x", "a\tb", "a\nb", "a\r", "a\u2028b", " a ",
     "\udce9", '"', "\\n", "# class: b\t0\ttrain"],
)  # fmt: skip
def test_names_that_look_like_something_else_are_read_back(word: str, path: Path) -> None:
    entries = (Entry(f"{word}/x.jpg", 0, "train"), Entry(word, 0, "test"), Entry("b/y", 1, "test"))
    odd = Manifest(f"folder:{word}", (word, "b") if word != "b" else (word,), entries)
    odd.write(path)
    assert read_manifest(path) == odd
    assert odd.sha256 in path.read_text(encoding="utf-8")


def test_only_names_that_would_break_a_line_are_quoted(path: Path) -> None:
    MANIFEST.write(path)
    # The hash of a split stands in ledgers: it must not move.
    assert MANIFEST.sha256.startswith("84db3252e47c5074")
    odd = replace(MANIFEST, class_names=("b\n", "a"))
    odd.write(path)
    lines = path.read_text(encoding="utf-8").split("\n")
    assert (lines[0], lines[3]) == ("# split manifest, version 2", r'# class: "b\n"')
    body = "\n".join([*lines[3:-2], "art\t0\ttrain", ""])
    sha256 = hashlib.sha256(body.encode()).hexdigest()
    path.write_text("\n".join([*lines[:2], f"# sha256: {sha256}", body]), encoding="utf-8")
    with pytest.raises(
        ValueError, match=r"split\.tsv, line 9: must be a text of JSON, but got 'art'"
    ):
        read_manifest(path)


def test_prepare_pins_the_split(root: Path, tmp_path: Path) -> None:
    config = DataConfig(name="folder:mine", root=str(root), tasks=2, image_size=8)
    done = prepare(config)
    assert (done.classes, done.train, done.test) == (2, 16, 4)
    assert done.manifest.is_relative_to(tmp_path / "cache")
    pinned = replace(config, manifest=str(done.manifest))
    assert checked_index(pinned).fingerprint == checked_index(config).fingerprint
    # A new image moves the drawn split; the pinned one says that it does not know it.
    trees.photograph(root / "mine" / "a" / "new.jpg", 5)
    assert manifest_of(checked_index(config)).sha256 != done.sha256
    with pytest.raises(ValueError, match=r"leaves out 1, the first a/new\.jpg"):
        checked_index(pinned)


def test_names_of_an_archive_are_read_back(root: Path) -> None:
    write_npz(root / "rows.npz", class_names=[b"cat", "Käse".encode()])
    config = DataConfig(name="npz:rows", root=str(root), tasks=1, image_size=4)
    pinned = replace(config, manifest=str(prepare(config).manifest))
    assert checked_index(pinned).class_names == ("cat", "Käse")


def test_the_hash_of_a_split_says_nothing_of_places_and_times(root: Path, tmp_path: Path) -> None:
    copied = tmp_path / "copy"
    shutil.copytree(root, copied, copy_function=shutil.copyfile)
    first, other = (read_index("folder:mine", str(path)) for path in (root, copied))
    assert manifest_of(first).sha256 == manifest_of(other).sha256
    assert first.fingerprint != other.fingerprint


def test_too_few_images_for_validation_are_found_before_a_study(tmp_path: Path) -> None:
    trees.cub(tmp_path, classes=200, images=2)
    config = DataConfig(name="cub200", root=str(tmp_path), tasks=10, image_size=32)
    with pytest.raises(ValueError, match=r"class '001\.Bird_1' of cub200 has 1, and 1 would be"):
        checked_index(config)


def test_a_share_that_a_pinned_split_leaves_unread_is_found_before_a_study(
    tmp_path: Path, path: Path
) -> None:
    trees.cub(tmp_path, classes=200, images=3)
    config = DataConfig(name="cub200", root=str(tmp_path), tasks=10, validation_share=0.4)
    entries = list(checked_index(config).entries)
    # The first of two training images of each class.
    entries[1::3] = [replace(entry, split="validation") for entry in entries[1::3]]
    Manifest("cub200", checked_index(config).class_names, tuple(entries)).write(path)
    config = replace(config, manifest=str(path))
    with pytest.raises(ValueError, match=r"data\.validation_share must be 0\.2 for cub200, which"):
        checked_index(config)
    index = checked_index(replace(config, validation_share=0.2))
    assert [set(index.counts(split).tolist()) for split in SPLITS] == [{1}, {1}, {1}]
