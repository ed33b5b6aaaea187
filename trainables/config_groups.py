"""What a trial depends on beside its method: images and tasks, network, training."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from trainables import catalog
from trainables.data_rules import check_first, check_read


@dataclass(frozen=True)
class DataConfig:
    """Which images, in which tasks.

    `classes` keeps a fixed random subset of the data set's classes (None: all);
    `train_per_class` and `test_per_class` cap the images of a class (None: no cap).
    `evaluation` decides what is held out: "validation" cuts `validation_share` of each
    class from the training images and uses no test image, "test" trains on all training images.
    `class_order` is shuffled with the trial's seed or the data set's own ("natural").
    `augmentation` of training images: small turns, shifts and scalings ("affine"), or a crop of
    a random share of the area of at least `crop_scale` (read by it alone), resized to the whole
    and flipped half the time ("random_resized_crop").

    `name` may be "folder:NAME" or "npz:NAME", a folder or file below `root`, the absolute folder of
    data sets (None: the environment variable LRCS_DATA_ROOT, then the system's). `split` is a rule
    (None: the first of the data set's), `manifest` the absolute path of a file that pins labels and
    splits instead. `split_sha256` is the hash that the split's manifest must have, for all images
    of the data set (None: any); a study fills it in. `grey` makes coloured images grey, `invert`
    swaps black and white, both while decoding. The first task brings `first_classes`, the others
    even shares of the rest (None: as even as possible). `cache` keeps decoded images on this
    machine ("auto") or decodes them every time ("off").
    """

    name: str = "icons"
    tasks: int = 10
    classes: int | None = None
    image_size: int = 32
    split: str | None = None
    class_order: Literal["shuffled", "natural"] = "shuffled"
    evaluation: Literal["validation", "test"] = "validation"
    validation_share: float = 0.2
    train_per_class: int | None = None
    test_per_class: int | None = None
    augmentation: Literal["affine", "random_resized_crop", "none"] = "affine"
    crop_scale: float = 0.08
    root: str | None = None
    manifest: str | None = None
    grey: bool = False
    invert: bool = False
    first_classes: int | None = None
    cache: Literal["auto", "off"] = "auto"
    split_sha256: str | None = None

    def __post_init__(self) -> None:
        check_read(self)
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
        check_first(self.first_classes, self.tasks, classes)
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
        if not 0 < self.validation_share < 1:
            raise ValueError(
                f"data.validation_share must be in (0, 1), but got {self.validation_share}."
            )
        if not 0 < self.crop_scale <= 1:
            raise ValueError(f"data.crop_scale must be in (0, 1], but got {self.crop_scale}.")
        for key in ("train_per_class", "test_per_class"):
            cap = getattr(self, key)
            least = 2 if key == "train_per_class" else 1
            if cap is not None and cap < least:
                raise ValueError(f"data.{key} must be at least {least} or null, but got {cap}.")
        # Where only the files know, the stream finds out.
        counts = [one for one in (info.fewest_images, self.train_per_class) if one is not None]
        fewest = min(counts, default=2)
        if fewest - validation_images(fewest, self.validation_share) < 1:
            raise ValueError(
                f"data.validation_share {self.validation_share} leaves no training image of the "
                f"smallest class of {self.name}, which has {fewest}."
            )

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


def _even(classes: int, tasks: int) -> tuple[int, ...]:
    return tuple(classes // tasks + (index < classes % tasks) for index in range(tasks))


def validation_images(images: int, share: float) -> int:
    """How many of a class's training images are held out for validation: at least one."""
    return max(1, round(share * images))


@dataclass(frozen=True)
class BackboneConfig:
    """The pretrained network and which of its layers take branches.

    `pretrained` weights come from timm or, with `checkpoint`, from a local file (safetensors or
    torch, an absolute path). `layers` are globs over the paths of linear layers and 1×1
    convolutions (None: the fused qkv of all attention; where there is none, the MLPs' linear
    layers; then 1×1 convolutions). `adapt` names slices of a fused qkv (None: the method's own).
    `blocks` is "all", "first:N" or a list of numbers. `image_size` (pixels) is what images are
    resized to for the network (None: the data's size stays). `normalise` feeds pixels in [0, 1]
    as both papers do ("none") or with the mean and deviation of the pretraining ("pretrained").
    """

    name: str = "compact_vit"
    pretrained: bool = True
    checkpoint: str | None = None
    layers: tuple[str, ...] | None = None
    adapt: tuple[str, ...] | None = None
    blocks: str | tuple[int, ...] = "all"
    image_size: int | None = None
    normalise: Literal["none", "pretrained"] = "none"

    def __post_init__(self) -> None:
        if self.checkpoint is not None:
            _check_checkpoint(Path(self.checkpoint), self.pretrained)
        if self.adapt is not None and (not self.adapt or set(self.adapt) - {"q", "k", "v"}):
            raise ValueError(
                f"backbone.adapt must be a non-empty list of 'q', 'k', 'v' or null, "
                f"but got {list(self.adapt)}."
            )


def _check_checkpoint(path: Path, pretrained: bool) -> None:
    """Refuses a file that cannot be the weights of a pretrained network."""
    if not pretrained:
        raise ValueError("backbone.pretrained must be true with backbone.checkpoint.")
    if not path.is_absolute() or not path.is_file():
        raise ValueError(
            f"backbone.checkpoint must be the absolute path of a file, but got {str(path)!r}."
        )


@dataclass(frozen=True)
class OptimConfig:
    """How each task is trained; rates and decays follow `lr` and `weight_decay` where None.

    `alpha_…` is for methods with magnitudes (SD-LoRA), `momentum` for the optimizer "sgd".
    `schedule` acts on all rates: "cosine" falls to 0 over the steps of a task; "step" multiplies
    by `step_factor` at the start of each epoch in `milestones` (from 0); "released_cosine" is
    InfLoRA's released one, lr · cos(99π e / (200 (K − 1))) over K epochs, its first value twice.
    `micro_batch` is how many images of a batch go through the network at once (None: all): the
    gradients add up to those of the whole batch, which needs less memory and more time.
    `precision` is that of the network's activations and products: "bfloat16" rounds the factors
    to 8 bits (autocast). Weights, heads and losses stay as they are, and so do the passes for
    moments and memories: the same weights decide the same dimensions with either.
    """

    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    lr: float = 5e-4
    alpha_lr: float | None = None
    head_lr: float | None = 5e-3
    momentum: float = 0.9
    weight_decay: float = 0.0
    alpha_weight_decay: float | None = None
    epochs: int = 5
    batch_size: int = 64
    micro_batch: int | None = None
    precision: Literal["float32", "bfloat16"] = "float32"
    schedule: Literal["cosine", "constant", "step", "released_cosine"] = "cosine"
    milestones: tuple[int, ...] = ()
    step_factor: float = 0.1

    def __post_init__(self) -> None:
        for key in ("lr", "alpha_lr", "head_lr"):
            value = getattr(self, key)
            if value is not None and not 0 < value < float("inf"):
                raise ValueError(f"optim.{key} must be a finite number above 0, but got {value}.")
        for key in ("epochs", "batch_size"):
            if getattr(self, key) < 1:
                raise ValueError(f"optim.{key} must be at least 1, but got {getattr(self, key)}.")
        if self.micro_batch is not None and not 1 <= self.micro_batch <= self.batch_size:
            raise ValueError(
                f"optim.micro_batch must be in [1, optim.batch_size] = [1, {self.batch_size}] or "
                f"null, but got {self.micro_batch}."
            )
        if not 0 <= self.momentum < 1:
            raise ValueError(f"optim.momentum must be in [0, 1), but got {self.momentum}.")
        for key in ("weight_decay", "alpha_weight_decay"):
            value = getattr(self, key)
            if value is not None and not 0 <= value < float("inf"):
                raise ValueError(
                    f"optim.{key} must be a finite number of at least 0, but got {value}."
                )
        if not 0 < self.step_factor <= 1:
            raise ValueError(f"optim.step_factor must be in (0, 1], but got {self.step_factor}.")
        if (self.schedule == "step") != bool(self.milestones):
            raise ValueError(
                f"optim.milestones must be given with optim.schedule step and be [] otherwise (a "
                f"recipe may have set them), but got {list(self.milestones)} with {self.schedule}."
            )
        if any(one < 1 for one in self.milestones):
            raise ValueError(
                f"optim.milestones must be epochs of at least 1, but got {list(self.milestones)}."
            )
