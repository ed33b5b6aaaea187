"""The locks: made from pyproject.toml as it is, and what the tests run with."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.cluster.lock_checks import not_as_installed, out_of_step, pins

ROOT = Path(__file__).parents[2]
PROJECT = ROOT / "pyproject.toml"
EXTRAS = {"cpu": ("study", "dev", "icons", "aws"), "cuda": ("study", "aws", "gcp", "azure")}


def lock(name: str) -> Path:
    return ROOT / f"cluster/constraints-{name}.txt"


@pytest.mark.parametrize("name", EXTRAS)
def test_a_lock_is_in_step_with_the_project(name: str) -> None:
    assert list(out_of_step(lock(name), PROJECT, EXTRAS[name])) == []


@pytest.mark.parametrize("name", EXTRAS)
def test_the_tool_is_asked_for_the_same_extras(name: str) -> None:
    script = (ROOT / "cluster/lock.sh").read_text("utf-8")
    call = re.search(rf"^make {name} (.*\\\n)*.*$", script, re.MULTILINE)
    assert call and tuple(re.findall(r"--extra (\w+)", call[0])) == EXTRAS[name]
    assert "cluster/lock.sh" in lock(name).read_text("utf-8").splitlines()[1]


def test_both_locks_agree_on_what_both_hold() -> None:
    cpu, cuda = pins(lock("cpu")), pins(lock("cuda"))
    assert {k: (v, cuda[k]) for k, v in cpu.items() if cuda.get(k, v) != v} == {}


def test_the_lock_for_gpus_brings_cuda_and_the_other_does_not() -> None:
    assert any(name.startswith("nvidia-") for name in pins(lock("cuda")))
    assert not any(name.startswith("nvidia-") for name in pins(lock("cpu")))


def test_kuberay_runs_the_ray_of_the_lock() -> None:
    version = pins(lock("cuda"))["ray"]
    assert f"rayVersion: {version}\n" in (ROOT / "cluster/kuberay.yaml").read_text("utf-8")
    assert f"FROM rayproject/ray:{version}-" in (ROOT / "cluster/Dockerfile").read_text("utf-8")


@pytest.mark.skipif("EXACT_LOCK" not in os.environ, reason="only .ci/run installs exactly the lock")
def test_ci_has_installed_exactly_the_lock() -> None:
    # Of the extra `icons` nothing is installed by .ci/run.
    assert list(not_as_installed(lock("cpu"), {"resvg-py"})) == []


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ('"optuna>=5.0,<6"', '"optuna>=6"', "optuna==5.0.0 is not optuna>=6; make the locks anew"),
        ('"rich>=13"', '"rich>=13", "polars>=1"', "polars>=1 of pyproject.toml has no pin; make"),
    ],
)
def test_a_changed_project_is_noticed(tmp_path: Path, old: str, new: str, expected: str) -> None:
    text = PROJECT.read_text("utf-8")
    assert old in text
    changed = tmp_path / "pyproject.toml"
    changed.write_text(text.replace(old, new), encoding="utf-8")
    for name, extras in EXTRAS.items():
        (found,) = out_of_step(lock(name), changed, extras)
        assert found.startswith(f"constraints-{name}.txt: ") and expected in found


def test_another_version_than_the_installed_one_is_noticed(tmp_path: Path) -> None:
    changed = tmp_path / "constraints-cpu.txt"
    text = lock("cpu").read_text("utf-8")
    changed.write_text(
        re.sub(r"^ray==.*$", "ray==2.0.0\nno-such==1.0", text, flags=re.MULTILINE),
        encoding="utf-8",
    )
    found = list(not_as_installed(changed, set()))
    assert any(one.startswith("constraints-cpu.txt: ray==2.0.0, but 2.") for one in found)
    assert "constraints-cpu.txt: no-such==1.0 is not installed" in found


def test_the_tools_script_is_valid_shell() -> None:
    for path in sorted((ROOT / "cluster").glob("*.sh")):
        subprocess.run(["bash", "-n", str(path)], check=True)


def test_a_lock_with_another_line_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "constraints-cpu.txt"
    path.write_text("ray>=2\n", encoding="utf-8")
    with pytest.raises(ValueError, match="a line must be NAME==VERSION"):
        pins(path)
