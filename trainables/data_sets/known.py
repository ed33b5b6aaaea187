"""The data sets that are known by name: facts only, so that a study file is checked in a second."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

# What each set's files say themselves; 80 % of all images; 80 % of the images of each class.
PUBLISHED, RANDOM, STRATIFIED = "published", "random", "stratified"
RULES = (PUBLISHED, RANDOM, STRATIFIED)
FAMILIES = "families"  # whole font families


@dataclass(frozen=True)
class FileSet:
    """Where the files of a data set are and what reads them.

    `loader` is a module of the folder `loaders`; `places` are folders below the root, tried in
    order, then the absolute `system` one. `layout` and `origin` are what a person is told where
    nothing is found: a tree and the page to get it from. A set without places needs none.
    """

    loader: str
    places: tuple[str, ...]
    layout: str
    origin: str
    system: str | None = None


@dataclass(frozen=True)
class DatasetInfo:
    """A data set: number of classes, image sizes (pixels) it exists in, channels.

    `image_sizes` is None where images are resized to any. `fewest_images` is the number of
    training images of its smallest class, over all splits; None where only its files say it.
    `splits` are the values of data.split, the default one first. `files` is None for sets that
    come along or are drawn. `validation`: whether the set itself names the training images that
    are for validation, by each of its `splits`; `fewest_images` counts the others then. Of files
    that are read later it is not known here.
    """

    classes: int
    image_sizes: tuple[int, ...] | None = None
    channels: int = 3
    fewest_images: int | None = None
    splits: tuple[str, ...] = (RANDOM,)
    files: FileSet | None = None
    validation: bool = False


def _class_folders(folder: str, origin: str) -> DatasetInfo:
    """A set of 200 ImageNet classes, one folder each, as a whole or split already."""
    layout = (
        f"{folder}/n01443537/*.jpg … one folder for each of 200 classes (data.split: random or "
        f"stratified), or\n  {folder}/train/n01443537/*.jpg …\n  {folder}/test/n01443537/*.jpg … "
        f"(data.split: published; perhaps {folder}/val, too)"
    )
    files = FileSet("image_folder", (folder,), layout, origin)
    return DatasetInfo(200, splits=RULES, files=files)


CIFAR100 = FileSet(
    "cifar",
    ("cifar-100-python", "cifar100/cifar-100-python"),
    "cifar-100-python/train\n  cifar-100-python/test\n  cifar-100-python/meta",
    "the archive 'CIFAR-100 python version' from www.cs.toronto.edu/~kriz/cifar.html",
)
CUB200 = FileSet(
    "cub",
    ("CUB_200_2011", "cub/CUB_200_2011"),
    "CUB_200_2011/images.txt\n  CUB_200_2011/image_class_labels.txt\n"
    "  CUB_200_2011/train_test_split.txt\n"
    "  CUB_200_2011/images/001.Black_footed_Albatross/*.jpg …",
    "www.vision.caltech.edu/datasets/cub_200_2011",
)
DOMAINNET = FileSet(
    "list_files",
    ("domainnet", "DomainNet"),
    "domainnet/clipart_train.txt, clipart_test.txt, … for each of the six domains "
    "(lines 'clipart/bird/x.jpg 12')\n  domainnet/clipart/bird/*.jpg …",
    "ai.bu.edu/M3SDA (the cleaned version)",
)
FASHION_MNIST = FileSet(
    "idx",
    ("fashion-mnist", "FashionMNIST/raw"),
    "fashion-mnist/train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz,\n"
    "  t10k-images-idx3-ubyte.gz, t10k-labels-idx1-ubyte.gz (or without .gz)",
    "Debian's package dataset-fashion-mnist (found without a root) or "
    "github.com/zalandoresearch/fashion-mnist",
    system="/usr/share/datasets/fashion-mnist",
)
DIGITS = FileSet("digits", (), "", "the Python package scikit-learn")

DATASETS: Mapping[str, DatasetInfo] = MappingProxyType(
    {
        "icons": DatasetInfo(315, (32, 64), 1, 14, (RANDOM, "unseen_family")),
        "glyphs": DatasetInfo(570, (32,), 1, 35, (FAMILIES,), validation=True),
        "gaussian": DatasetInfo(64, (8, 32), 1, 20),
        "cifar100": DatasetInfo(100, fewest_images=500, splits=(PUBLISHED,), files=CIFAR100),
        "imagenet_r": _class_folders("imagenet-r", "github.com/hendrycks/imagenet-r"),
        "imagenet_a": _class_folders("imagenet-a", "github.com/hendrycks/natural-adv-examples"),
        "cub200": DatasetInfo(200, splits=RULES, files=CUB200),
        "domainnet": DatasetInfo(345, splits=(PUBLISHED,), files=DOMAINNET),
        "fashion_mnist": DatasetInfo(10, None, 1, 6000, (PUBLISHED,), FASHION_MNIST),
        "digits": DatasetInfo(10, None, 1, None, (STRATIFIED, RANDOM), DIGITS),
    }
)

# "folder:NAME" and "npz:NAME": anybody's images, below the root.
GENERIC: Mapping[str, FileSet] = MappingProxyType(
    {
        "folder": FileSet(
            "image_folder",
            ("{name}",),
            "{name}/train/CLASS/*.jpg …\n  {name}/test/CLASS/*.jpg … (data.split: published; "
            "perhaps\n  {name}/val, too), or\n"
            "  {name}/CLASS/*.jpg … (data.split: random or stratified, or data.manifest)",
            "your own images (jpg, png, …)",
        ),
        "npz": FileSet(
            "npz",
            ("{name}", "{name}.npz"),
            "{name}.npz with the arrays images (n, h, w) or (n, h, w, channels) uint8, labels (n,) "
            "and, for\n  data.split: published, split (n,) of 'train', 'test' and perhaps 'val'; "
            "class_names may be there",
            "numpy.savez",
        ),
    }
)


def generic_name(name: str) -> tuple[str, str] | None:
    """Kind and NAME of "folder:NAME" or "npz:NAME", else None; ValueError if NAME leads away."""
    kind, colon, rest = name.partition(":")
    if not colon or kind not in GENERIC:
        return None
    parts = rest.split("/")
    if "" in parts or ".." in parts or "." in parts or "\\" in rest:
        raise ValueError(
            f"data.name must be {kind}:NAME with a path below the root, but got {name!r}."
        )
    return kind, rest
