"""Whether a lock is in step with pyproject.toml and with what is installed."""

import re
import sysconfig
import tomllib
from collections.abc import Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

# Part of every virtual environment, of whatever version it was made with.
TOOLS = {"pip", "setuptools", "wheel"}
PROJECT = "low-rank-continual-study"
LINUX = {"sys_platform": "linux", "platform_machine": "x86_64", "python_full_version": "3.11.9"}
ENVIRONMENT = {"python_version": "3.11", "platform_system": "Linux", "os_name": "posix"} | LINUX


def pins(path: Path) -> dict[str, str]:
    """The versions that a lock gives, by normalised name.

    Raises:
        ValueError: for a line that is not NAME==VERSION.
    """
    found: dict[str, str] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            if not (match := re.fullmatch(r"([\w.-]+)==([\w.]+)", line)):
                raise ValueError(f"{path.name}: a line must be NAME==VERSION, but is {line!r}.")
            found[canonicalize_name(match.group(1))] = match.group(2)
    return found


def out_of_step(lock: Path, project: Path, extras: tuple[str, ...]) -> Iterator[str]:
    """What `project` asks for with these extras and the lock does not hold."""
    table = tomllib.loads(project.read_text(encoding="utf-8"))["project"]
    wanted = list(table["dependencies"])
    for extra in extras:
        wanted += table["optional-dependencies"][extra]
    have = pins(lock)
    for requirement in map(Requirement, wanted):
        if requirement.marker and not requirement.marker.evaluate(ENVIRONMENT):
            continue
        version = have.get(canonicalize_name(requirement.name))
        again = "make the locks anew: bash cluster/lock.sh"
        if version is None:
            yield f"{lock.name}: {requirement} of {project.name} has no pin; {again}"
        elif not requirement.specifier.contains(version, prereleases=True):
            yield f"{lock.name}: {requirement.name}=={version} is not {requirement}; {again}"


def not_as_installed(lock: Path, skipped: set[str]) -> Iterator[str]:
    """Differences between the lock and this environment.

    `skipped` are pins that need not be installed; whatever is installed must be pinned.
    """
    have = pins(lock)
    # Not what a package brings along in a folder of its own: `import ray` adds one to the path.
    found = distributions(path=[sysconfig.get_path("purelib"), sysconfig.get_path("platlib")])
    installed = {_name(one): one.version.partition("+")[0] for one in found}
    for name, version in installed.items():
        if name in TOOLS or name == PROJECT:
            continue
        if name not in have:
            yield f"{lock.name}: {name} {version} is installed, but not pinned"
        elif Version(have[name]) != Version(version):
            yield f"{lock.name}: {name}=={have[name]}, but {version} is installed"
    for name in have.keys() - installed.keys() - skipped - TOOLS:
        yield f"{lock.name}: {name}=={have[name]} is not installed"


def _name(one: Distribution) -> str:
    return canonicalize_name(one.metadata["Name"])
