"""The CIFAR-100 archive: pickles of others, read without running anything in them."""

import pickle
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest

from tests.trainables.data_sets import trees
from trainables.data_sets.file_sets import read_index
from trainables.data_sets.loaders import cifar


def test_cifar100(tmp_path: Path) -> None:
    trees.cifar(tmp_path, train=300, test=100, classes=100)
    index = read_index("cifar100", str(tmp_path))
    assert [set(index.counts(split)) for split in ("train", "test")] == [{3}, {1}]
    assert index.class_names[7] == "fine_07"
    entry = index.entries[207]
    assert (entry.path, entry.label, entry.split) == ("train#207", 7, "train")
    data = np.random.default_rng(len("train")).integers(0, 256, (300, 3072), np.uint8)[207]
    image = index.decode(entry)
    # Stored plane by plane: all red, all green, all blue.
    assert image.shape == (32, 32, 3)
    assert image[2, 5].tolist() == [data[2 * 32 + 5], data[1024 + 69], data[2048 + 69]]


def test_cifar100_as_python_3_pickles_it(tmp_path: Path) -> None:
    trees.cifar(tmp_path, train=100, test=100, classes=100)
    file = tmp_path / "cifar-100-python" / "test"
    before = read_index("cifar100", str(tmp_path))
    expected = before.decode(before.entries[-1])
    file.write_bytes(pickle.dumps(cifar.load(file), protocol=2))
    after = read_index("cifar100", str(tmp_path))
    assert np.array_equal(after.decode(after.entries[-1]), expected)


def test_a_pickle_with_code_in_it_is_refused_and_not_run(tmp_path: Path) -> None:
    trees.cifar(tmp_path, train=100, test=100, classes=100)
    meta = tmp_path / "cifar-100-python" / "meta"
    meta.write_bytes(trees.with_code(tmp_path / "it-was-run"))
    with pytest.raises(ValueError, match=r"meta must be a batch of CIFAR: it names .*mkdir"):
        read_index("cifar100", str(tmp_path))
    assert not (tmp_path / "it-was-run").exists()


def test_a_torn_cifar_batch_is_named(tmp_path: Path) -> None:
    trees.cifar(tmp_path, train=100, test=100, classes=100)
    file = tmp_path / "cifar-100-python" / "train"
    file.write_bytes(file.read_bytes()[:-50])
    with pytest.raises(ValueError, match="train must be a batch of CIFAR"):
        read_index("cifar100", str(tmp_path))


def test_cifar_arrays_of_other_numbers_are_refused(tmp_path: Path) -> None:
    folder = trees.cifar(tmp_path, train=100, test=100, classes=100)
    for kind in (np.float64, np.object_):
        (folder / "meta").write_bytes(pickle.dumps({"x": np.zeros(3, kind)}, protocol=2))
        with pytest.raises(ValueError, match=r"meta must be a batch .*: arrays must be uint8"):
            cifar.load(folder / "meta")


@pytest.mark.parametrize(
    "body",
    [
        # A text that announces 2**62 bytes, an array of 2**40 numbers, and one called by name.
        b"\x80\x04\x8e" + (2**62).to_bytes(8, "little"),
        b"cnumpy\nndarray\n(\x8a\x06\x00\x00\x00\x00\x00\x01tR.",
    ],
)
def test_a_cifar_batch_that_asks_for_too_much_is_named(body: bytes, tmp_path: Path) -> None:
    (tmp_path / "meta").write_bytes(body)
    with pytest.raises(ValueError, match="meta must be a batch of CIFAR"):
        cifar.load(tmp_path / "meta")


@pytest.mark.parametrize("error", [MemoryError, SystemError, OverflowError])
def test_a_cifar_batch_that_no_memory_holds_is_named(
    error: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "meta").write_bytes(b"N.")
    monkeypatch.setattr(cifar._ArraysOnly, "load", Mock(side_effect=error))
    with pytest.raises(ValueError, match=f"meta must be a batch of CIFAR: {error.__name__}"):
        cifar.load(tmp_path / "meta")


def test_a_cifar_label_out_of_range_is_named(tmp_path: Path) -> None:
    folder = trees.cifar(tmp_path, train=30, test=30, classes=20)
    (folder / "test").write_bytes(trees.cifar_batch(30, 30, 0))
    with pytest.raises(ValueError, match=r"test: labels must be in \[0, 19\], but row 20 has 20"):
        cifar.read(folder, 3, None)
