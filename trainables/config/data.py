"""The keys `data.…`: which images a trial sees, cut into which tasks."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from trainables.config import catalog


@dataclass(frozen=True)
class DataConfig:
    """Which images, in which tasks."""

    name: str = "icons"
    """The data set; also "folder:NAME" or "npz:NAME", a folder or file below `root`."""
    tasks: int = 10
    """Number of tasks that the classes arrive in."""
    classes: int | None = None
    """A fixed random subset of so many of the data set's classes (None: all)."""
    image_size: int = 32
    """Height and width of the images, in pixels."""
    split: str | None = None
    """Rule that parts training from test images (None: the first of the data set's)."""
    class_order: Literal["shuffled", "natural", "published"] = "shuffled"
    """Shuffled with the trial's seed, the data set's own ("natural"), or shuffled with the seed as
    released code does it, by NumPy's legacy generator ("published")."""
    test_view: Literal["bilinear", "bicubic"] = "bilinear"
    """How images of files are resized for evaluation: bilinear, photographs to 256/224 of
    `image_size` with the middle cut out and rows of archives whole, or bicubic with the middle cut
    out of both, as the released SD-LoRA does it; read by sets of files alone."""
    evaluation: Literal["validation", "test"] = "validation"
    """What is held out: "validation" cuts `validation_share` of each class from the training
    images, or takes those that the data set itself names, and uses no test image; "test" trains
    on all training images, on those for validation too."""
    validation_share: float = 0.2
    """Share of each class's training images that is held out for validation; read where the data
    set does not itself name the images for it."""
    train_per_class: int | None = None
    """The most training images of a class, with the validation images that are cut from them
    (None: no cap). Those that the data set names itself count only where "test" trains on them."""
    test_per_class: int | None = None
    """The most test images of a class, and the most validation images where the data set names
    them itself (None: no cap)."""
    augmentation: Literal["affine", "random_resized_crop", "none"] = "affine"
    """Of training images: small turns, shifts and scalings ("affine"), or a crop of a
    random share of the area, resized to the whole and flipped half the time."""
    crop_scale: float = 0.08
    """The smallest share of the area that "random_resized_crop" leaves; read by it alone."""
    root: str | None = None
    """The absolute folder of data sets (None: LRCS_DATA_ROOT, then the system's)."""
    manifest: str | None = None
    """Absolute path of a file that pins labels and splits in place of `split`."""
    grey: bool = False
    """Makes coloured images grey while decoding."""
    invert: bool = False
    """Swaps black and white while decoding."""
    rendition: Literal["none", "street"] = "none"
    """How images of a data set without files are drawn: as they are ("none"), or turned, in other
    greys, under uneven light and noise ("street"), which is one more domain."""
    rendition_strength: float = 1.0
    """How far "street" goes, from 0 (images as they are) to 1; read by it alone."""
    first_classes: int | None = None
    """Classes of the first task, the others share the rest (None: as even as possible)."""
    cache: Literal["auto", "off"] = "auto"
    """Keeps decoded images on this machine ("auto") or decodes them every time ("off")."""
    split_sha256: str | None = None
    """Hash that the manifest of the split must have (None: any); a study fills it in."""

    def __post_init__(self) -> None:
        _check_read(self)
        info = self.info
        classes = info.classes if self.classes is None else self.classes
        if not 1 <= classes <= info.classes:
            raise ValueError(
                f"data.classes must be in [1, {info.classes}] for {self.name}, but got {classes}."
            )
        if not 1 <= self.tasks <= classes:
            raise ValueError(
                f"data.tasks must be in [1, {classes}] (the number of classes of {self.name} "
                f"in use), but got {self.tasks}."
            )
        _check_first(self.first_classes, self.tasks, classes)
        if info.image_sizes is not None and self.image_size not in info.image_sizes:
            raise ValueError(
                f"data.image_size must be one of {list(info.image_sizes)} for {self.name}, "
                f"but got {self.image_size}."
            )
        if self.image_size < 1:
            raise ValueError(f"data.image_size must be at least 1, but got {self.image_size}.")
        if self.split is not None and self.split not in info.splits:
            raise ValueError(
                f"data.split must be one of {list(info.splits)} for {self.name}, "
                f"but got {self.split!r}."
            )
        if not 0 < self.crop_scale <= 1:
            raise ValueError(f"data.crop_scale must be in (0, 1], but got {self.crop_scale}.")
        if not 0 <= self.rendition_strength <= 1:
            raise ValueError(
                f"data.rendition_strength must be in [0, 1], but got {self.rendition_strength}."
            )
        for key in ("train_per_class", "test_per_class"):
            cap = getattr(self, key)
            least = 2 if key == "train_per_class" and not info.validation else 1
            if cap is not None and cap < least:
                raise ValueError(f"data.{key} must be at least {least} or null, but got {cap}.")
        _check_validation(self)

    @property
    def info(self) -> catalog.DatasetInfo:
        """What is known of the data set."""
        return catalog.dataset(self.name, self.root, self.split, self.manifest)

    @property
    def channels(self) -> int:
        """Channels of the images that the trainer sees."""
        return 1 if self.grey else self.info.channels

    @property
    def classes_in_use(self) -> int:
        """Number of classes over all tasks."""
        return self.info.classes if self.classes is None else self.classes

    @property
    def task_sizes(self) -> tuple[int, ...]:
        """Classes that each task brings; where they cannot be equal, the earlier have one more."""
        first = self.first_classes
        if first is None:
            return _even(self.classes_in_use, self.tasks)
        return (first, *_even(self.classes_in_use - first, self.tasks - 1))


def validation_images(images: int, share: float, whose: str) -> int:
    """How many of a class's training images are held out for validation: at least one.

    ValueError that says `whose` images they are, if none would be left to train on.
    """
    held_out = max(1, round(share * images))
    if images - held_out < 1:
        raise ValueError(
            f"data.validation_share {share} leaves no training image: {whose} has {images}, and "
            f"{held_out} would be held out."
        )
    return held_out


def check_share_unread(config: DataConfig) -> None:
    """Refuses a validation share, for a data set that names its validation images itself."""
    _refuse(config, ("validation_share",), "which names its validation images itself")


def _check_validation(config: DataConfig) -> None:
    """Refuses a validation share that leaves no training image, or that nothing would read."""
    info, share = config.info, config.validation_share
    if info.validation:
        check_share_unread(config)
        return
    if not 0 < share < 1:
        raise ValueError(f"data.validation_share must be in (0, 1), but got {share}.")
    # Where only the files know, the stream finds out.
    counts = [count for count in (info.fewest_images, config.train_per_class) if count is not None]
    validation_images(min(counts, default=2), share, f"the smallest class of {config.name}")


def _check_read(config: DataConfig) -> None:
    """Refuses what depends on the working directory or that nothing would read."""
    for key in ("root", "manifest"):
        value = getattr(config, key)
        if value is not None and not Path(value).is_absolute():
            raise ValueError(f"data.{key} must be an absolute path or null, but got {value!r}.")
    known = catalog.DATASETS.get(config.name)
    if known is not None and known.files is None:
        unread = ("manifest", "grey", "invert", "cache", "root")
        _refuse(config, unread, "which has no files")
    else:
        drawn = ", ".join(name for name, info in catalog.DATASETS.items() if info.files is None)
        _refuse(config, ("rendition",), f"since only data sets without files ({drawn}) have others")
        if known is not None and known.files is not None and not known.files.places:
            _refuse(config, ("root",), "which comes with a package")
    if config.rendition == "none":
        _refuse(config, ("rendition_strength",), "whose data.rendition is none")
    if config.manifest is not None:
        _refuse(config, ("split",), "whose split data.manifest decides")
    stated = config.split_sha256
    if stated is not None and not re.fullmatch("[0-9a-f]{64}", stated):
        raise ValueError(
            f"data.split_sha256 must be 64 hexadecimal digits or null, but got {stated!r}."
        )


def _check_first(first: int | None, tasks: int, classes: int) -> None:
    """Refuses a first task of `first` classes that leaves another one empty."""
    if first is None:
        return
    least = classes if tasks == 1 else 1
    most = classes - (tasks - 1)
    if not least <= first <= most:
        raise ValueError(
            f"data.first_classes must be in [{least}, {most}] or null, so that each of {tasks} "
            f"tasks brings one of {classes} classes, but got {first}."
        )


def _refuse(config: DataConfig, keys: Sequence[str], reason: str) -> None:
    """Refuses another value than the default of keys that mean nothing for this data set."""
    for key in keys:
        value, default = getattr(config, key), getattr(type(config), key)
        if value != default:
            others = " (LRCS_DATA_ROOT may be set: sets without it pass it by)"
            # As a study file has them.
            raise ValueError(
                f"data.{key} must be {json.dumps(default)} for {config.name}, {reason}, "
                f"but got {json.dumps(value)}{others if key == 'root' else ''}."
            )


def _even(classes: int, tasks: int) -> tuple[int, ...]:
    return tuple(classes // tasks + (index < classes % tasks) for index in range(tasks))
