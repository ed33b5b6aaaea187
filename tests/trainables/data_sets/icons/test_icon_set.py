import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from trainables.data_sets.icons.icon_set import (
    ICONS_FILE,
    IconSet,
    content_sha256,
    load_icons,
    load_icons_metadata,
    read_icons,
    unseen_family_split,
)

LICENCES = ("MIT", "ISC", "Apache-2.0", "BSD", "CC0", "Unlicense", "CC-BY-4.0")
CONTENT = "865009810dd0d0a90d0176e0b790dddce632427c3f611ee0e22acb6381827c57"


@cache
def icon_set(size: int) -> IconSet:
    return load_icons(size)


@pytest.mark.parametrize("size", [32, 64])
def test_arrays_fit_together(size: int) -> None:
    icons = icon_set(size)
    count = len(icons.labels)
    assert icons.images.shape == (count, size, size)
    assert icons.images.dtype == np.uint8
    assert icons.labels.dtype == icons.families.dtype == np.int64
    assert icons.is_test.shape == icons.families.shape == (count,)
    assert not (icons.images[::16] % 17).any()
    assert sorted(set(icons.labels.tolist())) == list(range(len(icons.class_names)))
    assert sorted(set(icons.families.tolist())) == list(range(len(icons.family_names)))
    # No bitmap occurs twice.
    assert len({image.tobytes() for image in icons.images}) == count


def test_classes_are_many_and_tested_on_evenly() -> None:
    icons = icon_set(32)
    per_class = np.bincount(icons.labels)
    assert (len(icons.class_names), len(icons.labels)) == (315, 15412)
    assert (np.median(per_class), per_class.min() >= 25) == (43, True)
    share = np.bincount(icons.labels[icons.is_test], minlength=len(per_class)) / per_class
    assert np.abs(share - 0.3).max() < 0.02
    # One image a concept and family.
    pairs = set(zip(icons.labels.tolist(), icons.families.tolist(), strict=True))
    assert len(pairs) == len(icons.labels)


def test_both_sizes_hold_the_same_drawings() -> None:
    small, large = icon_set(32), icon_set(64)
    assert np.array_equal(small.labels, large.labels)
    assert np.array_equal(small.is_test, large.is_test)
    halved = large.images[::50].reshape(-1, 32, 2, 32, 2).mean((2, 4))
    assert np.abs(halved - small.images[::50]).mean() < 4.0


def test_content_hash_is_the_one_recorded_and_pinned() -> None:
    assert ICONS_FILE.stat().st_size < 10_000_000
    metadata = load_icons_metadata()
    assert content_sha256(icon_set(32), icon_set(64)) == metadata["content_sha256"] == CONTENT
    assert metadata["version"] == "2.2.535"
    assert re.fullmatch("[0-9a-f]{64}", metadata["sha256"])


def test_synonyms_belong_to_one_class() -> None:
    names = [name for synonyms in load_icons_metadata()["classes"] for name in synonyms]
    assert len(set(names)) == len(names)
    assert {"home", "house"} <= set(names)
    assert "house" not in icon_set(32).class_names


def test_notice_lists_each_family_with_an_allowed_licence() -> None:
    icons = icon_set(32)
    text = ICONS_FILE.with_name("ICONS_NOTICE.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1:-1] for line in text.splitlines() if line.startswith("|")][2:]
    drawn = [(row[0].strip(), int(row[4])) for row in rows if int(row[4]) > 0]
    counts = np.bincount(icons.families).tolist()
    assert drawn == list(zip(icons.family_names, counts, strict=True))
    for row in rows:
        assert row[2].strip().lstrip("[").startswith(LICENCES)
        assert "-SA" not in row[2]
        assert "-NC" not in row[2]
        assert row[3].strip()


def test_other_sizes_and_files_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(32, 64\) pixels, but got size=48"):
        load_icons(48)
    with pytest.raises(ValueError, match="must start with"):
        read_icons(b"something else", 32)


def test_unseen_family_split_takes_whole_families() -> None:
    icons = icon_set(32)
    is_test = unseen_family_split(icons, 0.3, seed=1)
    assert 0.3 <= is_test.mean() < 0.36
    assert not set(icons.families[is_test]) & set(icons.families[~is_test])
    assert len(set(icons.labels[~is_test].tolist())) == len(icons.class_names)
    assert np.array_equal(is_test, unseen_family_split(icons, 0.3, seed=1))
    assert not np.array_equal(is_test, unseen_family_split(icons, 0.3, seed=2))


@pytest.mark.parametrize("share", [0.0, 1.0, -1.0])
def test_unseen_family_split_refuses_a_senseless_share(share: float) -> None:
    with pytest.raises(ValueError, match=re.escape("share must be in (0, 1)")):
        unseen_family_split(icon_set(32), share, seed=0)


@pytest.mark.process
def test_reader_needs_numpy_only() -> None:
    code = (
        "import sys\n"
        "for name in ('torch', 'resvg_py', 'PIL'): sys.modules[name] = None\n"
        "import trainables.data_sets.icons.icon_set"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
def test_rebuild_is_the_same_byte_for_byte(tmp_path: Path) -> None:
    tarball = os.environ.get("ICONIFY_TARBALL")
    if tarball is None:
        pytest.skip("ICONIFY_TARBALL does not name the npm tarball")
    output = tmp_path / ICONS_FILE.name
    command = [sys.executable, "-m", "trainables.data_sets.icons.build"]
    subprocess.run([*command, "--tarball", tarball, "--output", str(output)], check=True)
    assert output.read_bytes() == ICONS_FILE.read_bytes()
    notice = "ICONS_NOTICE.md"
    assert (tmp_path / notice).read_bytes() == ICONS_FILE.with_name(notice).read_bytes()
