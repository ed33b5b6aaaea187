"""The splits of the data sets without files: which images exist, by stable names.

An icon is "class/family" (one family draws a concept once), a drawn image "class/train_0".
"""

from trainables.config import DataConfig, catalog
from trainables.data_sets.icons.icon_set import ICON_SIZES, IconSet, load_icons, unseen_family_split
from trainables.data_sets.index import Entry, Split
from trainables.data_sets.manifest import Manifest

UNSEEN_FAMILY, UNSEEN_FAMILY_SHARE = "unseen_family", 0.3
GAUSSIAN_IMAGES: dict[Split, int] = {"train": 20, "test": 10}  # of each class


def embedded_manifest(config: DataConfig) -> Manifest:
    """The manifest of a data set without files, at any image size; ValueError for others."""
    if config.name == "icons":
        return icons_manifest(load_icons(min(ICON_SIZES)), config.split)
    if config.name == "gaussian":
        return gaussian_manifest()
    raise ValueError(f"data.name must be a data set without files, but got {config.name!r}.")


def icons_manifest(icons: IconSet, split: str | None) -> Manifest:
    """The manifest of the icons, one entry an image in their order, by a rule of data.split."""
    unseen = split == UNSEEN_FAMILY
    held_out = unseen_family_split(icons, UNSEEN_FAMILY_SHARE, seed=0) if unseen else icons.is_test
    columns = (icons.labels.tolist(), icons.families.tolist(), held_out.tolist())
    entries = (
        Entry(
            f"{icons.class_names[label]}/{icons.family_names[family]}",
            label,
            "test" if tested else "train",
        )
        for label, family, tested in zip(*columns, strict=True)
    )
    return Manifest("icons", icons.class_names, tuple(entries))


def gaussian_manifest() -> Manifest:
    """The manifest of the drawn images: the training images class by class, then the others."""
    classes = range(catalog.dataset("gaussian").classes)
    entries = (
        Entry(f"gaussian_{label:02d}/{split}_{number}", label, split)
        for split, count in GAUSSIAN_IMAGES.items()
        for label in classes
        for number in range(count)
    )
    return Manifest("gaussian", tuple(f"gaussian_{label:02d}" for label in classes), tuple(entries))
