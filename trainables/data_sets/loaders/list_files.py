"""DomainNet: {domain}_train.txt and {domain}_test.txt, a line "path label" for each image."""

from pathlib import Path

from trainables.data_sets.index import Split
from trainables.data_sets.loaders.image_files import file_mark
from trainables.data_sets.loaders.listing import (
    TRAIN_TEST,
    FileDecoder,
    Item,
    Listing,
    check_names,
    text_lines,
)

DOMAINS = ("clipart", "infograph", "painting", "quickdraw", "real", "sketch")


def read(path: Path, channels: int, classes: int | None) -> Listing:
    """Lists the images of all six domains together; a class is named by its folder.

    ValueError naming the list and line: no "path label", a label out of range, an image that is
    not there, a class with two names or two labels.
    """
    names: dict[int, str] = {}
    items: list[Item] = []
    for domain in DOMAINS:
        for split in TRAIN_TEST:
            items += _read_list(path, f"{domain}_{split}.txt", split, classes, names)
    check_names(path, names)
    size = len(names) if classes is None else classes
    class_names = tuple(names.get(label, f"class {label}") for label in range(size))
    return Listing(tuple(items), class_names, channels, FileDecoder(path, channels))


def _read_list(
    folder: Path, list_name: str, split: Split, classes: int | None, names: dict[int, str]
) -> list[Item]:
    """The images of one list; adds the names of its classes to `names`."""
    items = []
    file = folder / list_name
    lines = text_lines(file, f"lines 'domain/class/image label' of the images of {split}")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{file}, line {number}"
        image, _, text = line.strip().rpartition(" ")
        if not image or not text.isdecimal() or image.count("/") < 2 or ".." in image.split("/"):
            raise ValueError(f"{where}: must be 'domain/class/image label', but got {line!r}.")
        label = int(text)
        if classes is not None and label >= classes:
            raise ValueError(f"{where}: labels must be in [0, {classes - 1}], but got {label}.")
        name = image.split("/")[-2]
        if names.setdefault(label, name) != name:
            raise ValueError(
                f"{where}: label {label} must be class {names[label]!r}, but is {name!r}."
            )
        try:
            content = file_mark(f"{folder}/{image}")
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
        items.append(Item(image, label, split, content))
    return items
