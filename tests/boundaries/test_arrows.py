"""Holds the arrows of the design: who may import whom."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("study", "trainables", "search_spaces")
# What each part may import of this project; a prefix covers what lies below it.
STUDY_MAY = (
    "study",
    "search_spaces",
    "trainables.config",
    "trainables.catalog",
    "trainables.data.prepare",
    "trainables.ray_trainable",
)
# Only the cost probe trains in its own process.
PROBE_MAY = (*STUDY_MAY, "trainables.trainer")
LOW_RANK_MAY = ("trainables.low_rank",)
HEAVY = ("ray", "optuna", "mlflow")
MAY_IMPORT_RAY = ("trainables/ray_trainable.py",)


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} uses a relative import"
            module = node.module or ""
            found |= {module} | {f"{module}.{alias.name}" for alias in node.names}
    return found


def own(names: set[str]) -> set[str]:
    return {name for name in names if name.split(".")[0] in PACKAGES}


def modules_only(names: set[str]) -> set[str]:
    """Drops names that are attributes, so that `from a.b import c` counts as a.b unless a file."""
    return {
        name
        for name in own(names)
        if (ROOT / (name.replace(".", "/") + ".py")).is_file()
        or (ROOT / name.replace(".", "/")).is_dir()
    }


def files(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def allowed(name: str, prefixes: tuple[str, ...]) -> bool:
    return any(name == prefix or name.startswith(prefix + ".") for prefix in prefixes)


def test_study_reaches_trainables_only_through_its_doors() -> None:
    for path in files("study"):
        doors = PROBE_MAY if path == ROOT / "study/probe.py" else STUDY_MAY
        for name in modules_only(imports(path)) - {"trainables"}:
            assert allowed(name, doors), f"{path.name} must not import {name}"


def test_nothing_points_back_at_study() -> None:
    for folder in ("trainables", "search_spaces"):
        for path in files(folder):
            for name in modules_only(imports(path)):
                assert not allowed(name, ("study",)), f"{path.name} must not import {name}"


def test_search_spaces_are_data() -> None:
    for path in files("search_spaces"):
        for name in modules_only(imports(path)):
            assert allowed(name, ("search_spaces",)), f"{path.name} must not import {name}"


def test_low_rank_is_torch_only() -> None:
    for path in files("trainables/low_rank"):
        names = imports(path)
        for name in modules_only(names):
            assert allowed(name, LOW_RANK_MAY), f"{path.name} must not import {name}"
        outside = {name.split(".")[0] for name in names} - set(PACKAGES)
        assert outside <= {"torch", *sys.stdlib_module_names}, f"{path.name} imports {outside}"


# ray_trainable → trainer → methods → low_rank; backbones → low_rank; the rest serves them.
TRAINABLES_MAY = {
    "trainables/data": (
        "trainables.data",
        "trainables.config",
        "trainables.config_groups",
        "trainables.catalog",
    ),
    "trainables/backbones": (
        "trainables.backbones",
        "trainables.low_rank",
        "trainables.config",
        "trainables.catalog",
        "trainables.timm_compat",
        "trainables.data.icons",
        "trainables.data.icons_source",
        "trainables.data.icons_synonyms",
    ),
    "trainables/methods": (
        "trainables.alignment",
        "trainables.direction_metrics",
        "trainables.low_rank",
        "trainables.backbones",
        "trainables.data",
        "trainables.heads",
        "trainables.method",
        "trainables.metrics",
    ),
}


@pytest.mark.parametrize("folder", TRAINABLES_MAY)
def test_nothing_in_trainables_points_back(folder: str) -> None:
    for path in files(folder):
        for name in modules_only(imports(path)) - {"trainables"}:
            assert allowed(name, TRAINABLES_MAY[folder]), f"{path.name} must not import {name}"


@pytest.mark.parametrize("module", ["trainer", "ray_trainable"])
def test_the_top_of_trainables_is_imported_by_nothing_below(module: str) -> None:
    above = {"trainer": {"ray_trainable.py"}, "ray_trainable": set()}[module]
    for path in files("trainables"):
        found = f"trainables.{module}" in imports(path)
        assert not found or path.name in above, f"{path.name} must not import {module}"


def test_only_one_file_of_trainables_knows_ray() -> None:
    for path in files("trainables"):
        relative = path.relative_to(ROOT).as_posix()
        roots = {name.split(".")[0] for name in imports(path)}
        forbidden = set(HEAVY) - ({"ray"} if relative in MAY_IMPORT_RAY else set())
        assert not roots & forbidden, f"{relative} imports {roots & forbidden}"


def test_only_tracking_imports_mlflow() -> None:
    for path in files("study"):
        if path.name != "tracking.py":
            roots = {name.split(".")[0] for name in imports(path)}
            assert "mlflow" not in roots, f"{path.name} imports mlflow"


def test_catalog_and_config_import_no_torch() -> None:
    code = "import sys, trainables.config, trainables.catalog; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


@pytest.mark.parametrize("module", ["trainables.trainer"])
def test_the_trainer_imports_without_ray_optuna_and_mlflow(module: str) -> None:
    code = (
        "import sys\n"
        f"for name in {HEAVY!r}: sys.modules[name] = None\n"
        f"import {module}\n"
        "from trainables.config import TrialConfig\n"
        "params = {'method.name': 'inflora', 'method.rank': 2, 'data.name': 'gaussian',\n"
        "          'data.image_size': 8, 'data.classes': 4, 'data.tasks': 2, 'optim.epochs': 1,\n"
        "          'backbone.name': 'test_vit', 'backbone.pretrained': False}\n"
        f"trainer = {module}.SequentialTrainer(TrialConfig.from_params(params))\n"
        "assert trainer.train_task().task == 1\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
