"""TrialConfig: all that a trial depends on, as frozen dataclasses and as flat dotted keys."""

import dataclasses
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, Self, TypeAlias

from trainables import catalog

Scalar: TypeAlias = str | int | float | bool | tuple[str, ...] | None
Params: TypeAlias = dict[str, Scalar]


class MethodConfig(Protocol):
    """What the config of every method offers; the fields are the method's own."""

    @property
    def name(self) -> str:
        """Name of the method: its file's."""
        ...

    def check(self, width: int) -> None:
        """Refuses values that do not fit layers of `width` inputs with a ValueError."""
        ...


@dataclass(frozen=True)
class DataConfig:
    """Which images, in which tasks.

    `classes` keeps a fixed random subset of the data set's classes (None: all);
    `train_per_class` and `test_per_class` cap the images of a class (None: no cap).
    `evaluation` decides what is held out: "validation" cuts `validation_share` of each
    class from the training images and uses no test image, "test" trains on all training images.
    `class_order` is shuffled with the trial's seed or the data set's own ("natural").
    """

    name: str = "icons"
    tasks: int = 10
    classes: int | None = None
    image_size: int = 32
    split: str = "random"
    class_order: Literal["shuffled", "natural"] = "shuffled"
    evaluation: Literal["validation", "test"] = "validation"
    validation_share: float = 0.2
    train_per_class: int | None = None
    test_per_class: int | None = None
    augmentation: Literal["affine", "none"] = "affine"

    def __post_init__(self) -> None:
        info = catalog.dataset(self.name)
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
        if self.image_size not in info.image_sizes:
            raise ValueError(
                f"data.image_size must be one of {list(info.image_sizes)} for {self.name}, "
                f"but got {self.image_size}."
            )
        if self.split not in info.splits:
            raise ValueError(
                f"data.split must be one of {list(info.splits)} for {self.name}, "
                f"but got {self.split!r}."
            )
        if not 0 < self.validation_share < 1:
            raise ValueError(
                f"data.validation_share must be in (0, 1), but got {self.validation_share}."
            )
        for key in ("train_per_class", "test_per_class"):
            cap = getattr(self, key)
            least = 2 if key == "train_per_class" else 1
            if cap is not None and cap < least:
                raise ValueError(f"data.{key} must be at least {least} or null, but got {cap}.")
        fewest = min(info.fewest_images, self.train_per_class or info.fewest_images)
        if fewest - validation_images(fewest, self.validation_share) < 1:
            raise ValueError(
                f"data.validation_share {self.validation_share} leaves no training image of the "
                f"smallest class of {self.name}, which has {fewest}."
            )

    @property
    def classes_in_use(self) -> int:
        """Number of classes over all tasks."""
        return catalog.dataset(self.name).classes if self.classes is None else self.classes


def validation_images(images: int, share: float) -> int:
    """How many of a class's training images are held out for validation: at least one."""
    return max(1, round(share * images))


@dataclass(frozen=True)
class BackboneConfig:
    """The pretrained network; `adapt` names slices of the fused qkv (None: the method's own)."""

    name: str = "compact_vit"
    pretrained: bool = True
    adapt: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.adapt is not None and (not self.adapt or set(self.adapt) - {"q", "k", "v"}):
            raise ValueError(
                f"backbone.adapt must be a non-empty list of 'q', 'k', 'v' or null, "
                f"but got {list(self.adapt)}."
            )


@dataclass(frozen=True)
class OptimConfig:
    """How each task is trained; `alpha_lr` and `head_lr` follow `lr` where they are None.

    `alpha_lr` is for methods with magnitudes (SD-LoRA), `momentum` for the optimizer "sgd".
    """

    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    lr: float = 5e-4
    alpha_lr: float | None = None
    head_lr: float | None = None
    momentum: float = 0.9
    weight_decay: float = 0.0
    epochs: int = 5
    batch_size: int = 64
    schedule: Literal["cosine", "constant"] = "cosine"

    def __post_init__(self) -> None:
        for key in ("lr", "alpha_lr", "head_lr"):
            value = getattr(self, key)
            if value is not None and not 0 < value < float("inf"):
                raise ValueError(f"optim.{key} must be a finite number above 0, but got {value}.")
        for key in ("epochs", "batch_size"):
            if getattr(self, key) < 1:
                raise ValueError(f"optim.{key} must be at least 1, but got {getattr(self, key)}.")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"optim.momentum must be in [0, 1), but got {self.momentum}.")
        if not 0 <= self.weight_decay < float("inf"):
            raise ValueError(
                f"optim.weight_decay must be a finite number of at least 0, "
                f"but got {self.weight_decay}."
            )


@dataclass(frozen=True)
class TrialConfig:
    """One training run over a whole task sequence.

    `method` is the config dataclass of the method named by `method.name`. The flat form
    (`to_params`) is the only one that crosses a process.
    """

    method: MethodConfig
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    backbone: BackboneConfig = dataclasses.field(default_factory=BackboneConfig)
    optim: OptimConfig = dataclasses.field(default_factory=OptimConfig)
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**31:
            raise ValueError(f"seed must be in [0, 2**31), but got {self.seed}.")
        network = catalog.backbone(self.backbone.name)
        if network.image_size not in (None, self.data.image_size):
            raise ValueError(
                f"data.image_size must be {network.image_size} for backbone.name "
                f"{self.backbone.name}, but got {self.data.image_size}."
            )
        if self.data.image_size % network.patch_size:
            raise ValueError(
                f"data.image_size must be a multiple of the patch size {network.patch_size} of "
                f"backbone.name {self.backbone.name}, but got {self.data.image_size}."
            )
        if self.backbone.pretrained and not network.pretrained:
            raise ValueError(
                f"backbone.pretrained must be false for backbone.name {self.backbone.name}: "
                f"no pretrained weights exist."
            )
        self.method.check(network.width)

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> Self:
        """Builds a config from flat dotted keys.

        Raises:
            ValueError: for a key that is not known (the known ones are listed), a missing
                method.name, a value of the wrong type or out of range.
        """
        name = params.get("method.name")
        if not isinstance(name, str):
            raise ValueError(f"method.name must be one of {list(catalog.methods())}: it is {name}.")
        known = known_keys(name)
        unknown = sorted(set(params) - set(known))
        if unknown:
            raise ValueError(
                f"unknown key {unknown[0]!r} for method {name}; known keys are {sorted(known)}."
            )
        values = {key: _convert(key, value, known[key]) for key, value in params.items()}
        groups: dict[str, dict[str, Any]] = {"data": {}, "backbone": {}, "method": {}, "optim": {}}
        for key, value in values.items():
            group, _, field = key.partition(".")
            if field:
                groups[group][field] = value
        return cls(
            method=catalog.method_config(name)(**groups["method"]),
            data=DataConfig(**groups["data"]),
            backbone=BackboneConfig(**groups["backbone"]),
            optim=OptimConfig(**groups["optim"]),
            seed=values.get("seed", 0),
        )

    def to_params(self) -> Params:
        """The flat dotted form, every field present; `from_params` gives an equal config back."""
        flat: Params = {"seed": self.seed}
        for group in ("data", "backbone", "method", "optim"):
            config = getattr(self, group)
            for field in dataclasses.fields(config):
                flat[f"{group}.{field.name}"] = getattr(config, field.name)
        return flat


def known_keys(method: str) -> dict[str, Any]:
    """Every flat key a trial of `method` may set, with its type.

    Raises:
        ValueError: if there is no such method.
    """
    keys: dict[str, Any] = {"seed": int}
    groups = {
        "data": DataConfig,
        "backbone": BackboneConfig,
        "method": catalog.method_config(method),
        "optim": OptimConfig,
    }
    for group, config_class in groups.items():
        for field, kind in typing.get_type_hints(config_class).items():
            keys[f"{group}.{field}"] = kind
    return keys


def _convert(key: str, value: Any, kind: Any) -> Any:
    """Returns `value` as `kind`; numbers may be written as whole ones, tuples as lists."""
    origin = typing.get_origin(kind)
    if origin in (types.UnionType, typing.Union):
        if value is None:
            return None
        (kind,) = (one for one in typing.get_args(kind) if one is not type(None))
        origin = typing.get_origin(kind)
    if origin is Literal:
        allowed = typing.get_args(kind)
        if value not in allowed:
            raise ValueError(f"{key} must be one of {list(allowed)}, but got {value!r}.")
        return value
    if origin is tuple:
        if isinstance(value, list | tuple) and all(isinstance(one, str) for one in value):
            return tuple(value)
        raise ValueError(f"{key} must be a list of strings, but got {value!r}.")
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ValueError(f"{key} must be of type {kind.__name__}, but got {value!r}.")
    return value
