"""What a wheel of the project holds, and that it is enough to run a study."""

import functools
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
PACKAGES = ("study", "trainables", "search_spaces")
NOT_SOURCE = shutil.ignore_patterns("__pycache__")
# Small enough for a minute.
QUICK = ("data.tasks=[3]", "method.name=[inflora, nearest_mean]", "seeds=[0]", "data.classes=6")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made of a copy: building leaves files beside the sources."""
    place = tmp_path_factory.mktemp("wheel")
    for name in PACKAGES:
        shutil.copytree(PROJECT / name, place / "project" / name, ignore=NOT_SOURCE)
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(PROJECT / name, place / "project")
    options = ("--quiet", "--no-deps", "-w", str(place), str(place / "project"))
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options], check=True)
    (made,) = place.glob("*.whl")
    return made


@pytest.mark.nightly
def test_a_wheel_has_all_that_is_read_beside_code(wheel: Path) -> None:
    names = {Path(name) for name in zipfile.ZipFile(wheel).namelist()}
    kinds = (".py", ".md", ".pyc")
    for root in PACKAGES:
        files = (path.relative_to(PROJECT) for path in (PROJECT / root).rglob("*"))
        wanted = {path for path in files if path.suffix not in kinds and "." in path.name}
        assert {path for path in wanted if (PROJECT / path).is_file()} <= names
    assert not [name for name in names if name.parts[0] == "tests"]


@pytest.mark.nightly
def test_from_a_wheel_alone_the_console_command_runs_the_default_study(
    wheel: Path, tmp_path: Path
) -> None:
    environment = tmp_path / "env"
    venv.create(environment, symlinks=True, with_pip=True)
    own = sysconfig.get_path("purelib", "venv", {"base": str(environment)})
    # The packages of this one, but for the project itself.
    linked = Path(own) / "linked.pth"
    linked.write_text(f"{sysconfig.get_path('purelib')}\n", encoding="utf-8")
    python, lrcs = environment / "bin/python", environment / "bin/lrcs"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", wheel], check=True)
    changes = [word for change in QUICK for word in ("--set", change)]
    plain = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    run = functools.partial(
        subprocess.run,
        cwd=tmp_path,
        env={**plain, "HOME": str(tmp_path)},
        text=True,
        capture_output=True,
        check=False,
    )
    assert str(environment) in run([python, "-c", "print(__import__('study').__file__)"]).stdout
    study = run([lrcs, *changes, "--set", "contrasts=none"])
    assert study.returncode == 0, study.stdout + study.stderr
    assert "MLflow: lrcs --open" in study.stdout
    assert (tmp_path / "results/latest/report/report.html").is_file()
