"""A data set of random pixels as a .npz file, for trials whose accuracy means nothing."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np


@contextmanager
def random_set(classes: int, train: int, test: int, size: int) -> Iterator[dict[str, object]]:
    """The flat keys of a data set with so many images of each class, while the block lasts."""
    each = train + test
    generator = np.random.default_rng(0)
    with TemporaryDirectory() as folder:
        np.savez(
            Path(folder) / "random.npz",
            images=generator.integers(0, 256, (classes * each, size, size, 3), dtype=np.uint8),
            labels=np.repeat(np.arange(classes), each),
            split=np.array((["train"] * train + ["test"] * test) * classes),
        )
        yield {
            "data.name": "npz:random",
            "data.root": folder,
            "data.split": "published",
            "data.cache": "off",
            "data.image_size": size,
            "data.evaluation": "test",
        }
