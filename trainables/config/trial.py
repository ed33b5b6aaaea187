"""TrialConfig: all that a trial depends on, as one frozen dataclass and as flat dotted keys."""

import dataclasses
import functools
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol, Self, TypeAlias, runtime_checkable

from trainables.backbones import selection
from trainables.backbones.info import BackboneInfo, LayerInfo, PromptPlaces
from trainables.config import catalog, presets
from trainables.config.backbone import BackboneConfig
from trainables.config.convert import convert
from trainables.config.data import DataConfig
from trainables.config.evaluation import EvaluationConfig
from trainables.config.heads import HeadFields
from trainables.config.names import unknown_key
from trainables.config.optim import OptimConfig

Scalar: TypeAlias = str | int | float | bool | tuple[str, ...] | tuple[int, ...] | None
Params: TypeAlias = dict[str, Scalar]
MOST_PIXELS = 2048
# Keys that belong to no group, with their types.
TOP_LEVEL: Mapping[str, Any] = MappingProxyType(
    {"seed": int, "preset": str | None, "recipe": str | None, "diagnostics": bool}
)
GROUPS = ("data", "backbone", "method", "optim", "evaluation")

# Keys that came later, with what every trial before them did: a study goes on with its trials.
CAME_LATER: Mapping[str, Scalar] = MappingProxyType(
    {
        "data.rendition": "none",
        "data.rendition_strength": 1.0,
        "data.test_view": "bilinear",
        "evaluation.during": None,
        "method.identity_schedule": "cosine",
        "optim.prompt_lr": None,
        "optim.clip_norm": None,
        **{
            f"method.{field.name}": getattr(HeadFields, field.name)
            for field in dataclasses.fields(HeadFields)
            if field.name != "name"
        },
    }
)
# Keys that the methods of some families had before the others: no trial of theirs was without.
HAD_BEFORE: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "inflora": ("align", "align_epochs", "align_samples", "align_lr"),
        "hide_prompt": ("align_epochs", "align_samples", "align_lr"),
    }
)


class MethodConfig(Protocol):
    """What the config of every method offers; the fields are the method's own."""

    @property
    def name(self) -> str:
        """Name of the method: its folder's, or the variant's."""
        ...

    def check(self, width: int) -> None:
        """Refuses values that do not fit layers of `width` inputs with a ValueError."""
        ...


@runtime_checkable
class PromptingConfig(Protocol):
    """What the config of a method with prompts offers beside."""

    @property
    def whole_batch(self) -> str | None:
        """What makes an image's part of the loss depend on its batch, as flat keys; else None."""
        ...

    def check_prompts(self, places: PromptPlaces, tasks: int) -> None:
        """Refuses values that do not fit the network or the number of tasks with a ValueError."""
        ...


@runtime_checkable
class NetworkConfig(Protocol):
    """What the config of a method may offer that not every network suits."""

    def check_network(self, network: BackboneInfo) -> None:
        """Refuses values that do not fit the network with a ValueError."""
        ...


@runtime_checkable
class UpdatingConfig(Protocol):
    """What the config of a method may offer whose update rule some of `optim` does not go with."""

    def check_optim(self, optim: OptimConfig) -> None:
        """Refuses a rule or a split of batches that the method's update excludes, a ValueError."""
        ...


@runtime_checkable
class AdaptingConfig(Protocol):
    """What the config of a method may offer of which not all goes with every layer."""

    def check_layers(self, layers: Sequence[LayerInfo]) -> None:
        """Refuses values that do not fit the layers that are adapted with a ValueError."""
        ...


@dataclass(frozen=True)
class TrialConfig:
    """One training run over a whole task sequence.

    The flat form (`to_params`) is the only one that crosses a process.
    """

    method: MethodConfig
    """The config dataclass of the method that `method.name` names."""
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    backbone: BackboneConfig = dataclasses.field(default_factory=BackboneConfig)
    optim: OptimConfig = dataclasses.field(default_factory=OptimConfig)
    evaluation: EvaluationConfig = dataclasses.field(default_factory=EvaluationConfig)
    seed: int = 0
    """Seed of the class order, of weights and of batches."""
    preset: str | None = None
    """Fills in what paper and released code do differently; see `presets.expand`."""
    recipe: str | None = None
    """Fills in a family's published training of a data set, say inflora/imagenet_r."""
    diagnostics: bool = True
    """Measures interference with old tasks, which for methods without a subspace memory
    takes a pass of its own over a task's images, and at the end of a confirmation what the
    features are worth (the read-out), which takes a pass over all training images."""

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**31:
            raise ValueError(f"seed must be in [0, 2**31), but got {self.seed}.")
        channels = self.data.channels
        key = "data.image_size" if self.backbone.image_size is None else "backbone.image_size"
        size = self.input_size
        if not 1 <= size <= MOST_PIXELS:
            raise ValueError(f"{key} must be in [1, {MOST_PIXELS}], but got {size}.")
        network = catalog.backbone(self.backbone.name, size, channels)
        if network.image_size not in (None, size):
            raise ValueError(
                f"{key} must be {network.image_size} for backbone.name "
                f"{self.backbone.name}, but got {size}."
            )
        if size % network.patch_size:
            raise ValueError(
                f"{key} must be a multiple of the patch size {network.patch_size} of "
                f"backbone.name {self.backbone.name}, but got {size}."
            )
        local = self.backbone.checkpoint is not None
        if self.backbone.pretrained and not local and not network.pretrained:
            raise ValueError(
                f"backbone.pretrained must be false for backbone.name {self.backbone.name}: "
                f"no pretrained weights exist."
            )
        if self.backbone.pretrained and not local and network.misfit:
            raise ValueError(
                f"{key} must be one that the pretrained weights of {self.backbone.name} fit, but "
                f"at {size} pixels they do not ({network.misfit}); backbone.image_size sets that "
                f"of the network apart from the data's."
            )
        if self.backbone.normalise == "pretrained" and not network.pixel_statistics:
            raise ValueError(
                f"backbone.normalise must be 'none' for backbone.name {self.backbone.name}: "
                f"no mean and deviation of its pretraining are known."
            )
        own = catalog.declaration(self.method.name).layers
        chosen = selection.select(network.layers, self.backbone.layers, self.backbone.blocks, own)
        if self.backbone.adapt and not any(layer.kind == "qkv" for layer in chosen.values()):
            raise ValueError(
                f"backbone.adapt must be null where no fused qkv is adapted (it names slices of "
                f"one), but got {list(self.backbone.adapt)} for {self.backbone.name}."
            )
        self.method.check(min(layer.inputs for layer in chosen.values()))
        if isinstance(self.method, NetworkConfig):
            self.method.check_network(network)
        if isinstance(self.method, AdaptingConfig):
            self.method.check_layers(tuple(chosen.values()))
        if isinstance(self.method, UpdatingConfig):
            self.method.check_optim(self.optim)
        if isinstance(self.method, PromptingConfig):
            self._check_prompts(self.method, network.prompts)

    def _check_prompts(self, method: PromptingConfig, places: PromptPlaces | None) -> None:
        if places is None:
            raise ValueError(
                f"backbone.name must be a plain Vision Transformer of timm for method "
                f"{self.method.name}: its prompts enter the attention of all tokens at once, which "
                f"{self.backbone.name} does not have."
            )
        method.check_prompts(places, self.data.tasks)
        if self.optim.micro_batch is not None and method.whole_batch is not None:
            raise ValueError(
                f"optim.micro_batch must be null with {method.whole_batch}, whose loss is no mean "
                f"over images, but got {self.optim.micro_batch}."
            )

    @property
    def input_size(self) -> int:
        """Size of the images that the network sees, in pixels."""
        own = self.backbone.image_size
        return self.data.image_size if own is None else own

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> Self:
        """Builds a config from flat dotted keys.

        ValueError for a key that is not known (with the closest that is), a missing
        method.name, a value of the wrong type or out of range.
        """
        name = params.get("method.name")
        if not isinstance(name, str):
            raise ValueError(f"method.name must name a method, say 'inflora', but got {name!r}.")
        known = known_keys(name)
        values = _converted(params, name, known)
        values = _converted(presets.expand(values), name, known)
        groups: dict[str, dict[str, Any]] = {group: {} for group in GROUPS}
        for key, value in values.items():
            group, _, field = key.partition(".")
            if field:
                groups[group][field] = value
        return cls(
            method=catalog.declaration(name).config(**groups["method"]),
            data=DataConfig(**groups["data"]),
            backbone=BackboneConfig(**groups["backbone"]),
            optim=OptimConfig(**groups["optim"]),
            evaluation=EvaluationConfig(**groups["evaluation"]),
            **{key: value for key, value in values.items() if key in TOP_LEVEL},
        )

    def to_params(self) -> Params:
        """The flat dotted form, every field present; `from_params` gives an equal config back."""
        flat: Params = {key: getattr(self, key) for key in TOP_LEVEL}
        for group in GROUPS:
            config = getattr(self, group)
            for field in dataclasses.fields(config):
                flat[f"{group}.{field.name}"] = getattr(config, field.name)
        return flat


def as_before(params: Mapping[str, Any]) -> dict[str, Any]:
    """Flat params without keys that came later and say what trials before them did anyway."""
    base = catalog.declaration(str(params["method.name"])).base
    had = {f"method.{field}" for field in HAD_BEFORE.get(base, ())}
    return {
        key: value
        for key, value in params.items()
        if key in had or key not in CAME_LATER or value != CAME_LATER[key]
    }


@functools.cache
def known_keys(method: str) -> Mapping[str, Any]:
    """Every flat key a trial of `method` may set, with its type; ValueError if there is none."""
    keys: dict[str, Any] = dict(TOP_LEVEL)
    groups = {
        "data": DataConfig,
        "backbone": BackboneConfig,
        "method": catalog.declaration(method).config,
        "optim": OptimConfig,
        "evaluation": EvaluationConfig,
    }
    for group, config_class in groups.items():
        for field, kind in typing.get_type_hints(config_class).items():
            keys[f"{group}.{field}"] = kind
    return MappingProxyType(keys)


def _converted(params: Mapping[str, Any], method: str, known: Mapping[str, Any]) -> dict[str, Any]:
    """Values of the types that `known` names; ValueError for a key that it does not."""
    unknown = sorted(set(params) - set(known))
    if unknown:
        raise ValueError(unknown_key(unknown[0], method, known))
    return {key: convert(key, value, known[key]) for key, value in params.items()}
