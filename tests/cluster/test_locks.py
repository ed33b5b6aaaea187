"""The locks: made from pyproject.toml as it is, and what the tests run with."""

import os
import re
import subprocess
import sysconfig
import tomllib
from importlib.metadata import distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
EXTRAS = {
    "cpu": ("study", "dev", "icons", "aws", "postgres"),
    "cuda": ("study", "aws", "gcp", "azure", "postgres"),
}
# Part of every virtual environment, of whatever version it was made with; and the project itself.
NOT_LOCKED = {"pip", "setuptools", "wheel", "low-rank-continual-study"}
MACHINE = {
    "sys_platform": "linux",
    "platform_machine": "x86_64",
    "platform_system": "Linux",
    "os_name": "posix",
    "python_version": "3.11",
    "python_full_version": "3.11.9",
}


def lock(name: str) -> str:
    return (ROOT / f"cluster/constraints-{name}.txt").read_text("utf-8")


def pins(name: str) -> dict[str, str]:
    """The versions that a lock gives, by normalised name; every line gives one."""
    lines = [line for line in lock(name).splitlines() if line and not line.startswith("#")]
    matches = [re.fullmatch(r"([\w.-]+)==([\w.]+)", line) for line in lines]
    assert all(matches), lines
    return {canonicalize_name(match[1]): match[2] for match in matches if match}


@pytest.mark.parametrize("name", EXTRAS)
def test_a_lock_is_in_step_with_the_project(name: str) -> None:
    table = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = [table["optional-dependencies"][extra] for extra in EXTRAS[name]]
    have, again = pins(name), "make the locks anew: bash cluster/lock.sh"
    for requirement in map(Requirement, sum(extras, table["dependencies"])):
        if requirement.marker is None or requirement.marker.evaluate(MACHINE):
            version = have.get(canonicalize_name(requirement.name))
            assert version is not None, f"{requirement} has no pin; {again}"
            assert requirement.specifier.contains(version, prereleases=True), again
    # The tool that makes them is asked for the same extras.
    script = (ROOT / "cluster/lock.sh").read_text("utf-8")
    call = re.search(rf"^make {name} (.*\\\n)*.*$", script, re.MULTILINE)
    assert call and tuple(re.findall(r"--extra (\w+)", call[0])) == EXTRAS[name]
    assert "cluster/lock.sh" in lock(name).splitlines()[1]


def test_the_locks_agree_and_only_that_for_gpus_brings_cuda() -> None:
    cpu, cuda = pins("cpu"), pins("cuda")
    assert {k: (v, cuda[k]) for k, v in cpu.items() if cuda.get(k, v) != v} == {}
    assert any(name.startswith("nvidia-") for name in cuda)
    assert not any(name.startswith("nvidia-") for name in cpu)


def test_kuberay_runs_the_ray_of_the_lock() -> None:
    version = pins("cuda")["ray"]
    assert f"rayVersion: {version}\n" in (ROOT / "cluster/kuberay.yaml").read_text("utf-8")
    assert f"FROM rayproject/ray:{version}-" in (ROOT / "cluster/Dockerfile").read_text("utf-8")


@pytest.mark.skipif("EXACT_LOCK" not in os.environ, reason="only .ci/run installs exactly the lock")
def test_ci_has_installed_exactly_the_lock() -> None:
    # Not what a package brings along in a folder of its own: `import ray` adds one to the path.
    found = distributions(path=[sysconfig.get_path("purelib"), sysconfig.get_path("platlib")])
    installed = {
        canonicalize_name(package.metadata["Name"]): package.version.partition("+")[0]
        for package in found
    }
    # Of the extra `icons` nothing is installed by .ci/run.
    skipped = {*NOT_LOCKED, "resvg-py"}
    here, wanted = (
        {name: version for name, version in versions.items() if name not in skipped}
        for versions in (installed, pins("cpu"))
    )
    assert here == wanted


@pytest.mark.parametrize(
    "path", sorted((ROOT / "cluster").glob("*.sh")), ids=lambda path: path.name
)
def test_a_script_is_valid_shell(path: Path) -> None:
    subprocess.run(["bash", "-n", str(path)], check=True)
