"""Class folders: CLASS/*.jpg, or train/CLASS/*.jpg, test/CLASS/*.jpg, perhaps val/CLASS/*.jpg."""

from pathlib import Path

from trainables.data_sets.index import SPLITS, Split
from trainables.data_sets.loaders.image_files import image_files, said_of_passed
from trainables.data_sets.loaders.listing import PARTS, FileDecoder, Item, Listing


def read(path: Path, channels: int, classes: int | None) -> Listing:
    """Lists the images of every class folder; labels follow the sorted names of the folders.

    Folders train/ and test/ are the splits where there are these two and no other but one for
    validation: validation/, val/ or valid/. ValueError if there is no image, one lies beside the
    class folders, a class is empty, or a folder is named as a part of the images where these are
    not all the parts. What is passed over inside of class folders is in the notes.
    """
    files, passed = image_files(path)
    folders = {
        folder.name for folder in path.iterdir() if folder.is_dir() and folder.name[0] != "."
    }
    parts = _parts(path, folders)
    below = [
        (split, prefix, name.removeprefix(prefix), mark)
        for split, prefix in parts
        for name, mark in files
        if name.startswith(prefix)
    ]
    beside = [name for name, _ in files if "/" not in name]
    class_names = _class_names(path, [*beside, *(name for _, _, name, _ in below)])
    prefixes = [prefix for _, prefix in parts]
    folders = {folder.name for prefix in prefixes for folder in (path / prefix).iterdir()}
    _refuse_empty(path, folders - set(class_names), prefixes)
    labels = {name: label for label, name in enumerate(class_names)}
    items = [
        Item(prefix + name, labels[name.split("/", 1)[0]], split, mark)
        for split, prefix, name, mark in below
    ]
    prefixes = [*(f"{prefix}{name}/" for prefix in prefixes for name in class_names)]
    said = said_of_passed(name for name in passed if name.startswith(tuple(prefixes)))
    notes = (said,) if said else ()
    return Listing(tuple(items), class_names, channels, FileDecoder(path, channels), notes)


def _parts(path: Path, folders: set[str]) -> list[tuple[Split | None, str]]:
    """The splits with what paths in them begin with; one without a name where they are classes.

    Refuses train/ without test/, two for validation and the like, which would pass for classes.
    """
    named = sorted(name for name in folders if name.lower() in PARTS)
    if not named:
        return [(None, "")]
    splits = {split: name for name, split in PARTS.items() if name in folders}
    if len(splits) == len(folders) and {"train", "test"} <= splits.keys():
        return [(split, f"{splits[split]}/") for split in SPLITS if split in splits]
    others = sorted(folders - set(named))
    beside = f" beside {others[0]!r}" if others else ""
    raise ValueError(
        f"{path} must hold either train/CLASS/*.jpg … and test/CLASS/*.jpg …, perhaps one of "
        f"validation/, val/ and valid/ as well, and no other folder, or CLASS/*.jpg … with no "
        f"class named as one of {sorted(PARTS)}, but has {named}{beside}."
    )


def _class_names(path: Path, names: list[str]) -> tuple[str, ...]:
    loose = [name for name in names if "/" not in name]
    if loose:
        raise ValueError(
            f"{path}: every image must lie in the folder of its class, but {loose[0]} does not."
        )
    if not names:
        raise ValueError(f"{path} must hold class folders with images, but there is no image.")
    return tuple(sorted({name.split("/", 1)[0] for name in names}))


def _refuse_empty(path: Path, others: set[str], prefixes: list[str]) -> None:
    """Refuses a class folder without an image; files and hidden folders are none."""
    for name in sorted(others):
        if not name.startswith(".") and any((path / prefix / name).is_dir() for prefix in prefixes):
            raise ValueError(f"{path}: every class folder must hold an image, but {name} does not.")
