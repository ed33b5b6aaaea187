"""What a method's folder declares, and what is said of a folder that declares it wrongly."""

import dataclasses
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from trainables.config import TrialConfig, catalog, methods

CONFIG = """
import dataclasses
from trainables.config import DataConfig  # of another module: not this method's

@dataclasses.dataclass(frozen=True)
class FirstConfig:
    name: str = "first"
    rank: int = 4

    def check(self, width: int) -> None: ...

ADAPTS = ()
"""


@pytest.mark.parametrize(
    "method", [name for name in catalog.methods() if catalog.declaration(name).base == name]
)
def test_a_methods_config_is_the_class_in_its_file(method: str) -> None:
    config = catalog.declaration(method).config
    module = importlib.import_module(f"trainables.methods.{method}.config")
    assert config is getattr(module, config.__name__)
    assert config().name == method


def test_a_variant_has_its_methods_fields_with_its_own_defaults() -> None:
    variant: Any = catalog.declaration("sd_lora_rr").config
    method: Any = catalog.declaration("sd_lora").config
    assert issubclass(variant, method)
    assert dataclasses.fields(variant)[0].name == "name"
    assert [f.name for f in dataclasses.fields(variant)] == [
        f.name for f in dataclasses.fields(method)
    ]
    assert (variant().name, method().name) == ("sd_lora_rr", "sd_lora")
    assert variant().rank_steps and not method().rank_steps


def test_of_an_unknown_method_the_closest_is_told() -> None:
    known = rf"method.name must be one of {len(catalog.methods())} names, but got 'inflorra'"
    with pytest.raises(ValueError, match=rf"^{known}. Did you mean 'inflora'\?$"):
        catalog.declaration("inflorra")
    with pytest.raises(ValueError, match=r"but got 'x'. The nearest are \['"):
        catalog.declaration("x")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of the one method there is, `first`; a package of its own in every test."""
    package = tmp_path.name
    path = tmp_path / package / "first"
    (path / "variants").mkdir(parents=True)
    (path / "config.py").write_text(CONFIG, encoding="utf-8")
    (path / "method.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(methods, "FOLDER", path.parent)
    monkeypatch.setattr(methods, "PACKAGE", package)
    methods.methods.cache_clear()
    methods.declaration.cache_clear()
    yield path
    methods.methods.cache_clear()
    methods.declaration.cache_clear()


def test_a_method_and_its_variant_are_found_by_their_files(folder: Path) -> None:
    (folder / "variants" / "wide.py").write_text('DEFAULTS = {"method.rank": 9}', encoding="utf-8")
    (folder.parent / "left_over" / "__pycache__").mkdir(parents=True)
    assert catalog.methods() == ("first", "first_wide")
    assert catalog.declaration("first").config().rank == 4
    assert catalog.declaration("first_wide").config().rank == 9


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("config.py", None, r"first must hold config.py and method.py, but has method.py only"),
        ("method.py", None, r"first must hold config.py and method.py, but has config.py only"),
        ("config.py", "ADAPTS = ()", r"first/config.py must define .*…Config, but defines \[\]"),
        (
            "config.py",
            CONFIG + "@dataclasses.dataclass\nclass OtherConfig: ...",
            r"config.py must define .*…Config, but defines \['FirstConfig', 'OtherConfig'\]",
        ),
        ("config.py", CONFIG.replace("ADAPTS", "LAYERS"), r"first/config.py must name ADAPTS"),
        (
            "variants/wide.py",
            'DEFAULTS = {"method.rnak": 9}',
            r"DEFAULTS of .*variants/wide.py must name fields of FirstConfig "
            r"\(\['name', 'rank'\]\), but got 'method.rnak'",
        ),
    ],
)
def test_a_folder_that_declares_it_wrongly_is_named(
    file: str, text: str | None, message: str, folder: Path
) -> None:
    if text is None:
        (folder / file).unlink()
    else:
        (folder / file).write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        for name in catalog.methods():
            catalog.declaration(name)


def test_defaults_of_other_keys_must_be_known_too(folder: Path) -> None:
    variant = folder / "variants" / "wide.py"
    variant.write_text('DEFAULTS = {"backbone.blokcs": "first:5"}', encoding="utf-8")
    with pytest.raises(ValueError, match=r"unknown key 'backbone.blokcs' for method first_wide"):
        TrialConfig.from_params({"method.name": "first_wide"})
