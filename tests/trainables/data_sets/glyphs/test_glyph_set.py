import base64
import os
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from trainables.config import catalog
from trainables.data_sets.glyphs.build import (
    ALIKE,
    FEWEST_FACES,
    MIN_FACES,
    MOST_FACES,
    NOTICE_NAME,
    PACKAGES_FILE,
    read_packages,
)
from trainables.data_sets.glyphs.characters import SCRIPT_OF
from trainables.data_sets.glyphs.fonts import LICENCES
from trainables.data_sets.glyphs.glyph_set import (
    GLYPHS_FILE,
    SPLITS,
    GlyphSet,
    content_sha256,
    load_glyphs,
    load_glyphs_metadata,
    read_glyphs,
)

CONTENT = "0c4d7a5781b893599cf7a5c07489cfabc0257a7f0e637c1e96fba3e662cef575"
NOTICE = GLYPHS_FILE.with_name(NOTICE_NAME)


@cache
def glyph_set() -> GlyphSet:
    return load_glyphs()


def counts_of(split: str) -> list[int]:
    """Images of each class in a split."""
    glyphs = glyph_set()
    chosen = np.array(glyphs.face_splits)[glyphs.faces] == split
    counts = np.bincount(glyphs.labels[chosen], minlength=len(glyphs.class_names))
    return [int(count) for count in counts]


def test_arrays_fit_together() -> None:
    glyphs = glyph_set()
    count = len(glyphs.labels)
    assert (glyphs.images.shape, glyphs.images.dtype) == ((count, 32, 32), np.uint8)
    assert glyphs.labels.shape == glyphs.faces.shape == (count,)
    assert glyphs.labels.dtype == glyphs.faces.dtype == np.int64
    assert not (glyphs.images[::16] % 17).any()
    assert glyphs.images[:, :3].min() == glyphs.images[:, :, :3].min() == 255
    assert len(glyphs.face_splits) == len(glyphs.face_names) == len(set(glyphs.face_names))
    assert set(glyphs.face_splits) == set(SPLITS)
    # By class, then by face, one image of each.
    pairs = list(zip(glyphs.labels.tolist(), glyphs.faces.tolist(), strict=True))
    assert pairs == sorted(set(pairs))
    # No bitmap is there twice, in one class or in two.
    assert len({image.tobytes() for image in glyphs.images}) == count


def test_classes_are_many_and_drawn_by_many_faces_in_each_split() -> None:
    glyphs = glyph_set()
    names = glyphs.class_names
    assert (len(names), len(set(names)), len(glyphs.labels)) == (570, 570, 36897)
    assert list(names) == sorted(names)
    assert np.bincount(glyphs.labels).min() >= MIN_FACES == 55
    for split, fewest, most in zip(SPLITS, FEWEST_FACES, MOST_FACES, strict=True):
        assert fewest <= min(counts_of(split)) and max(counts_of(split)) == most
    # What a study file is checked by.
    info = catalog.dataset("glyphs")
    assert (info.classes, info.fewest_images) == (len(names), min(counts_of("train")))


def test_a_family_is_in_one_split() -> None:
    glyphs = glyph_set()
    families = {
        (name.rpartition("-")[0], split)
        for name, split in zip(glyphs.face_names, glyphs.face_splits, strict=True)
    }
    assert len(families) == len({family for family, _ in families}) > 300


def test_characters_that_look_alike_are_one_class() -> None:
    classes = load_glyphs_metadata()["characters"]
    characters = "".join(classes)
    assert len(set(characters)) == len(characters)
    assert len({SCRIPT_OF[members[0]] for members in classes}) == 10
    assert {"AΑА", "HΗН", "aа"} <= set(classes)
    # Small letters of one shape with their capitals, here and in other scripts.
    assert not set("cosvwxzκсзинпшы") & set(characters)
    assert set("abdegβζ") <= set(characters)


@pytest.mark.slow
def test_mean_drawings_differ() -> None:
    glyphs = glyph_set()
    ink = 1 - glyphs.images.reshape(len(glyphs.labels), -1).astype(np.float32) / 255
    means = np.stack([ink[glyphs.labels == label].mean(0) for label in range(570)])
    nearest = [np.sort(np.abs(means - mean).mean(1))[1] for mean in means]
    assert min(nearest) > ALIKE / 3


@pytest.mark.slow
@pytest.mark.parametrize("split", ["validation", "test"])
def test_few_images_are_near_one_that_is_trained_on(split: str) -> None:
    glyphs = glyph_set()
    splits = np.array(glyphs.face_splits)[glyphs.faces]
    levels = (glyphs.images // 17).reshape(len(glyphs.labels), -1)
    nearest = []
    for label in range(len(glyphs.class_names)):
        own = glyphs.labels == label
        trained = levels[own & (splits == "train")]
        sums = trained.sum(1, dtype=np.int64)
        for image in levels[own & (splits == split)]:
            both = np.minimum(image, trained).sum(1, dtype=np.int64)
            nearest.append(int((sums + image.sum(dtype=np.int64) - 2 * both).min()))
    distances = np.array(nearest) / (15 * levels.shape[1])
    assert distances.min() > 0
    assert (distances <= 0.005).mean() < 0.01
    assert (distances <= 0.02).mean() < 0.1


def test_content_hash_is_the_one_recorded_and_pinned() -> None:
    assert GLYPHS_FILE.stat().st_size < 10_000_000
    assert content_sha256(glyph_set()) == load_glyphs_metadata()["content_sha256"] == CONTENT


def test_packages_are_pinned_and_in_the_notice_with_a_free_licence() -> None:
    packages = read_packages(PACKAGES_FILE)
    assert len(packages) == 357
    for version, integrity in packages.values():
        algorithm, _, digest = integrity.partition("-")
        assert version and (algorithm, len(base64.b64decode(digest))) == ("sha512", 64)
    pinned = [[name, *rest] for name, rest in sorted(packages.items())]
    assert load_glyphs_metadata()["packages"] == pinned
    glyphs = glyph_set()
    families = [name.rpartition("-")[0] for name in glyphs.face_names]
    images = Counter(families[face] for face in glyphs.faces.tolist())
    splits = dict(zip(families, glyphs.face_splits, strict=True))
    lines = NOTICE.read_text(encoding="utf-8").splitlines()
    rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("|")][2:]
    assert [row[0] for row in rows] == [f"{name} {version}" for name, version, _ in pinned]
    for (name, _, _), (_, family, licence, owner, split, count) in zip(pinned, rows, strict=True):
        assert licence in LICENCES == ("OFL-1.1", "Apache-2.0")
        assert family and owner
        assert (split, int(count)) == (splits.get(name, "none"), images[name])


def test_other_files_are_refused() -> None:
    with pytest.raises(ValueError, match="a glyphs file must start with b'GLYPHS01', but got b'so"):
        read_glyphs(b"something else")


@pytest.mark.process
def test_reader_needs_numpy_only() -> None:
    code = (
        "import sys\n"
        "for name in ('torch', 'PIL', 'fontTools', 'brotli'): sys.modules[name] = None\n"
        "import trainables.data_sets.glyphs.build"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
def test_rebuild_is_the_same_byte_for_byte(tmp_path: Path) -> None:
    packages = os.environ.get("FONTSOURCE_TARBALLS")
    if packages is None:
        pytest.skip("FONTSOURCE_TARBALLS does not name the folder of npm tarballs")
    output = tmp_path / GLYPHS_FILE.name
    command = [sys.executable, "-m", "trainables.data_sets.glyphs.build", "--packages", packages]
    subprocess.run([*command, "--output", str(output)], check=True)
    assert output.read_bytes() == GLYPHS_FILE.read_bytes()
    assert (tmp_path / NOTICE_NAME).read_bytes() == NOTICE.read_bytes()
