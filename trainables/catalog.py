"""What exists by name: data sets, backbones and methods, without importing torch.

A study file is checked against this in about a second. Methods are found by their files and
their config classes are read from the source, so that adding a method registers nothing here.
"""

import ast
import dataclasses
import difflib
import typing
from functools import cache
from pathlib import Path
from types import MappingProxyType

METHODS_FOLDER = Path(__file__).parent / "methods"


@dataclasses.dataclass(frozen=True)
class DatasetInfo:
    """A data set: number of classes, image sizes (pixels) it exists in, channels.

    `fewest_images` is the number of training images of its smallest class, over all splits.
    """

    classes: int
    image_sizes: tuple[int, ...]
    channels: int
    fewest_images: int
    splits: tuple[str, ...] = ("random",)


@dataclasses.dataclass(frozen=True)
class BackboneInfo:
    """A backbone: width of its tokens, patch size (pixels), whether pretrained weights exist.

    `image_size` is the only one it takes, in pixels; None where it is built for the data's.
    """

    width: int
    patch_size: int
    image_size: int | None
    pretrained: bool


DATASETS = MappingProxyType(
    {
        "icons": DatasetInfo(315, (32, 64), 1, 14, ("random", "unseen_family")),
        "gaussian": DatasetInfo(64, (8, 32), 1, 20),
    }
)
BACKBONES = MappingProxyType(
    {
        "compact_vit": BackboneInfo(width=160, patch_size=8, image_size=32, pretrained=True),
        "test_vit": BackboneInfo(width=16, patch_size=4, image_size=8, pretrained=False),
    }
)


def dataset(name: str) -> DatasetInfo:
    """Looks a data set up.

    Raises:
        ValueError: if there is none of that name.
    """
    if name not in DATASETS:
        raise ValueError(f"data.name must be one of {sorted(DATASETS)}, but got {name!r}.")
    return DATASETS[name]


def backbone(name: str) -> BackboneInfo:
    """Looks a backbone up: an embedded one at once, any other through timm (seconds).

    Raises:
        ValueError: if neither this project nor timm has it.
    """
    if name in BACKBONES:
        return BACKBONES[name]
    # Only here, since timm takes seconds to import and most studies use what is embedded.
    from trainables.backbones.timm_lookup import describe

    return describe(name, tuple(BACKBONES))


def methods() -> tuple[str, ...]:
    """Names of all methods, sorted."""
    return tuple(sorted(path.stem for path in METHODS_FOLDER.glob("[a-z]*.py")))


@cache
def method_config(name: str) -> type:
    """The config dataclass of a method, compiled from its source without importing torch.

    The class ``…Config`` in ``methods/<name>.py`` may use builtins, dataclasses and typing.

    Raises:
        ValueError: if there is no such method.
    """
    if name not in methods():
        close = difflib.get_close_matches(name, methods(), n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"method.name must be one of {list(methods())}, but got {name!r}.{hint}")
    source = (METHODS_FOLDER / f"{name}.py").read_text(encoding="utf-8")
    classes = [
        node
        for node in ast.parse(source).body
        if isinstance(node, ast.ClassDef) and node.name.endswith("Config")
    ]
    if len(classes) != 1:
        raise ValueError(
            f"a method file must define exactly one class named '…Config', "
            f"but methods/{name}.py defines {len(classes)}."
        )
    namespace: dict[str, typing.Any] = {
        "__name__": f"trainables.methods.{name}",
        "dataclass": dataclasses.dataclass,
        "field": dataclasses.field,
        "Literal": typing.Literal,
    }
    exec(compile(ast.Module(list(classes), []), f"methods/{name}.py", "exec"), namespace)
    config_class = namespace[classes[0].name]
    if not isinstance(config_class, type):
        raise TypeError(f"{classes[0].name} must be a class.")
    return config_class
