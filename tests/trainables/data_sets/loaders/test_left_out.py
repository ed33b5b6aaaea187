"""What is passed over is said: suffixes, hidden files, arrays; names that are not UTF-8."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from tests.trainables.data_sets import trees
from tests.trainables.data_sets.loaders.test_loaders import write_npz
from trainables.config import DataConfig
from trainables.data.prepare import prepare
from trainables.data_sets.file_sets import read_index
from trainables.data_sets.loaders import image_files, image_folder

LATIN = os.fsdecode(b"caf\xe9")


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Path]:
    """Two classes of two images; removed at once, since not every tool can read odd names."""
    trees.class_folders(tmp_path / "mine", ["a", "b"], images=2)
    yield tmp_path / "mine"
    shutil.rmtree(tmp_path / "mine")


def test_every_suffix_that_pillow_reads_is_taken(tree: Path) -> None:
    suffixes = Image.registered_extensions()
    taken = {suffix for suffix in suffixes if image_files.is_image(f"x{suffix}")}
    # Written only, known by sight only (their readers are other programs), and films.
    never = {"PDF", "PALM", "BUFR", "GRIB", "HDF5", "WMF", "MPEG"}
    assert {suffixes[suffix] for suffix in set(suffixes) - taken} == never & set(suffixes.values())
    assert taken >= image_files.COMMON
    for name in ("x.gif", "x.jfif", "x.JPE", "x.TGA", "x.mpo"):
        shutil.copy(tree / "a" / "art_0.jpg", tree / "a" / name)
    listing = image_folder.read(tree, 3, None)
    assert (len(listing.items), listing.notes) == (9, ())


def test_common_images_need_no_image_library(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_files, "readable_suffixes", None)
    assert len(image_folder.read(tree, 3, None).items) == 4


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["a/x"], "1 file was passed over inside class folders: 1 without a suffix (such as a/x)."),
        (["a/.x.png"], "1 file was passed over inside class folders: 1 hidden .png (such as a/.x."),
        (
            ["a/x.txt", "a/y.TXT", "b/deep/.cache/z.jpg"],
            "3 files were passed over inside class folders: 2 .txt (such as a/x.txt), 1 hidden .jpg"
            " (such as b/deep/.cache/z.jpg).",
        ),
        ([f"a/{LATIN}.csv"], r"1 .csv (such as a/caf\xe9.csv)."),
        ([f"a/x.{number}" for number in range(12)], ", 4 of 4 other kinds."),
    ],
)
def test_what_is_passed_over_is_counted_by_suffix(names: list[str], said: str, tree: Path) -> None:
    for name in names:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).touch()
    (note,) = image_folder.read(tree, 3, None).notes
    assert said in note
    # Beside the classes there may be a text on them, or a repository.
    (tree / ".git").mkdir()
    for name in ("README.txt", ".git/x.png"):
        (tree / name).touch()
    assert image_folder.read(tree, 3, None).notes == (note,)


def test_arrays_that_nothing_reads_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LRCS_CACHE_ROOT", str(tmp_path / "cache"))
    write_npz(tmp_path / "mine.npz", classnames=["x", "y"], splits=[0])
    told = (
        "npz:mine: 2 arrays are not read: 'classnames', 'splits' (known are images, labels, split, "
        "class_names)."
    )
    config = DataConfig(name="npz:mine", root=str(tmp_path), tasks=1, image_size=4)
    assert prepare(config).warnings == (told,)


@pytest.mark.parametrize(
    "name", [LATIN, f"a/{LATIN}.png", f"a/{LATIN}/x.png", "a/" + os.fsdecode(b"\xff\xfe.jpg")]
)
def test_a_name_that_is_not_utf8_is_refused_with_its_bytes(name: str, tree: Path) -> None:
    if name.endswith("g"):
        (tree / name).parent.mkdir(exist_ok=True)
        (tree / name).touch()
    else:
        (tree / name).mkdir()
    with pytest.raises(ValueError, match=r"must be UTF-8, but .*\\x(e9|fe).* is not: rename") as no:
        image_folder.read(tree, 3, None)
    str(no.value).encode()


@pytest.mark.parametrize("root", [os.fsdecode(b"/d\xe9"), "/d\ud800"])
def test_a_root_that_is_not_utf8_is_refused(root: str) -> None:
    with pytest.raises(ValueError, match=r"must be UTF-8, but /d\\(xe9|ud800)/mine is not") as no:
        read_index("folder:mine", root)
    str(no.value).encode()


def test_what_only_looks_like_an_image_is_named(tree: Path) -> None:
    # A folder is none; whoever opens a pipe waits for ever.
    (tree / "a" / "empty.png").mkdir()
    assert len(image_folder.read(tree, 3, None).items) == 4
    os.mkfifo(tree / "a" / "pipe.png")
    with pytest.raises(ValueError, match=r"pipe\.png must be a file, but is a folder, a pipe or"):
        image_folder.read(tree, 3, None)
