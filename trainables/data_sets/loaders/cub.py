"""CUB-200-2011: images.txt, image_class_labels.txt and train_test_split.txt, joined by number."""

from pathlib import Path

from trainables.data_sets.index import Split
from trainables.data_sets.loaders.image_files import file_mark
from trainables.data_sets.loaders.listing import (
    FileDecoder,
    Item,
    Listing,
    check_names,
    text_lines,
)


def read(path: Path, channels: int, classes: int | None) -> Listing:
    """Lists the images with the published split; a class is named by its folder.

    ValueError naming the file: a list that is not there, a line of another form, an image
    without a label or split, an image that is not there, a label that is not in [1, number of
    folders], a class with two labels, a split other than 0 and 1.
    """
    images = _table(path / "images.txt")
    labels = _table(path / "image_class_labels.txt")
    is_train = _table(path / "train_test_split.txt")
    items = []
    names: dict[int, str] = {}
    for number, name in images.items():
        for table, file in ((labels, "image_class_labels.txt"), (is_train, "train_test_split.txt")):
            if not table.get(number, "").isdecimal():
                raise ValueError(f"{path / file} must have a number for image {number} ({name}).")
        if is_train[number] not in ("0", "1"):
            raise ValueError(
                f"{path / 'train_test_split.txt'}: must be 1 (training) or 0 (test), "
                f"but image {number} has {is_train[number]}."
            )
        label = int(labels[number]) - 1
        if label < 0 or (classes is not None and label >= classes):
            raise ValueError(
                f"{path / 'image_class_labels.txt'}: labels must be in [1, {classes}], "
                f"but image {number} has {label + 1}."
            )
        folder = name.split("/", 1)[0]
        if names.setdefault(label, folder) != folder:
            raise ValueError(
                f"{path / 'image_class_labels.txt'}: class {label + 1} must be {names[label]!r}, "
                f"but image {number} is in {folder!r}."
            )
        split: Split = "train" if is_train[number] == "1" else "test"
        mark = file_mark(f"{path}/images/{name}")
        items.append(Item(f"images/{name}", label, split, mark))
    check_names(path / "image_class_labels.txt", {label + 1: name for label, name in names.items()})
    total = classes if classes is not None else 1 + max(names, default=-1)
    class_names = tuple(names.get(label, f"class {label + 1}") for label in range(total))
    return Listing(tuple(items), class_names, channels, FileDecoder(path, channels))


def _table(file: Path) -> dict[str, str]:
    """Lines "number value" as a dictionary."""
    rows: dict[str, str] = {}
    for number, line in enumerate(text_lines(file, "lines 'number value'"), start=1):
        key, _, value = line.strip().partition(" ")
        if not line.strip():
            continue
        if not key.isdecimal() or not value or key in rows:
            raise ValueError(
                f"{file}, line {number}: must be 'number value', each number once, "
                f"but got {line!r}."
            )
        rows[key] = value
    return rows
