"""What Ray's own validation of a cluster file misses, one function a rule.

Each takes the parsed file and yields `key: what is wrong`; `mistakes` adds the name of the file.
"""

import itertools
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import jsonschema
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from tests.cluster import node_commands, provider_checks

Config = dict[str, Any]
# Anything that would listen on, or be let in from, everywhere.
EVERYWHERE = re.compile(r"\b0\.0\.0\.0\b|(?<![\w:])::(?![\w:])")
SECRETS = {
    "an access key of AWS": re.compile(r"\b(AKIA|ASIA)[A-Z0-9]{16}\b"),
    "a private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY"),
    "a token": re.compile(r"\b(gh[pousr]_\w{20,}|hf_\w{20,}|ya29\.[\w-]{20,}|xox[abp]-\w+)"),
    "a password": re.compile(r"(?i)(password|passwd|secret|api_?key|access_?token)\w*\s*[:=]\s*\S"),
}
HEADER = ("Creates:", "Costs", "Edit:", "Needs")
MOST_EDITS = 8
# Version 1 of the autoscaler goes by cluster/spot_first.py, version 2 by `priority`.
SCORER = (
    "RAY_enable_autoscaler_v2=0 PYTHONPATH=$HOME/lrcs/cluster "
    "RAY_AUTOSCALER_UTILIZATION_SCORER=spot_first.score"
)


def mistakes(path: Path, root: Path) -> list[str]:
    """All that is wrong with a file of the cluster launcher that is used from the folder `root`."""
    text = path.read_text(encoding="utf-8")
    config = yaml.safe_load(text)
    found = [*header(text), *closed_and_without_secrets(config), *_ray(config)]
    for check in CHECKS:
        found += check(config)
    found += _mounts(config, root)
    found += node_commands.mistakes(config, root)
    return [f"{path.name}: {one}" for one in found]


def _ray(config: Config) -> Iterator[str]:
    """Ray's own schema and prepare step."""
    try:
        validate_config(prepare_config(config))
    except jsonschema.ValidationError as error:
        yield f"{'.'.join(map(str, error.absolute_path)) or 'top level'}: {error.message}"
    except (ValueError, RuntimeError, KeyError, click.ClickException) as error:
        yield f"ray: {error!r}"


def header(text: str) -> Iterator[str]:
    """What a file creates, costs and wants edited, in comments before anything else."""
    lines = text.splitlines()
    head = list(itertools.takewhile(lambda line: line.startswith("#"), lines))
    for word in HEADER:
        if not any(line.startswith(f"# {word}") for line in head):
            yield f"header: must have a line that starts with '# {word}'"
    edits = sum("# EDIT" in line for line in lines)
    if not 1 <= edits <= MOST_EDITS:
        yield f"header: 1 to {MOST_EDITS} lines must be marked '# EDIT', but {edits} are"
    after = itertools.dropwhile(lambda line: not line.startswith("# Costs"), head)
    costs = " ".join(itertools.takewhile(lambda line: line.startswith(("# Costs", "#   ")), after))
    if "USD" in costs and not (re.search(r"20\d\d", costs) and "check" in costs):
        yield "header: a price must come with its date and the advice to check it"


def closed_and_without_secrets(value: Any, key: str = "") -> Iterator[str]:
    """No secret and no address of everywhere, in any value."""
    if isinstance(value, dict):
        for name, one in value.items():
            yield from closed_and_without_secrets(one, f"{key}.{name}" if key else str(name))
            if isinstance(one, str) and SECRETS["a password"].search(f"{name}: {one}"):
                yield f"{key}.{name}: looks like a password"
    elif isinstance(value, list):
        for index, one in enumerate(value):
            yield from closed_and_without_secrets(one, f"{key}[{index}]")
    elif isinstance(value, str):
        if EVERYWHERE.search(value):
            yield f"{key}: must not be open to every address, but has {value!r}"
        for what, pattern in SECRETS.items():
            if pattern.search(value):
                yield f"{key}: looks like {what}"


def _limits(config: Config) -> Iterator[str]:
    """A type's own limits against each other and against the global one."""
    types: Config = config.get("available_node_types", {})
    most = config.get("max_workers", 0)
    for name, one in types.items():
        low, high = one.get("min_workers", 0), one.get("max_workers")
        key = f"available_node_types.{name}"
        if high is None:
            yield f"{key}.max_workers: must be given"
        elif high > most:
            yield f"{key}.max_workers: must be at most max_workers ({most}), but is {high}"
        elif low > high:
            yield f"{key}.min_workers: must be at most its max_workers ({high}), but is {low}"
        if low > 0:
            yield f"{key}.min_workers: must be 0 (no worker without work), but is {low}"


def _head(config: Config) -> Iterator[str]:
    types: Config = config.get("available_node_types", {})
    if not types:
        return
    name = str(config.get("head_node_type"))
    heads = [one for one in types if one.startswith("head")]
    if heads != [name]:
        yield f"head_node_type: must be the one type named head, but is {name} beside {heads}"
        return
    key, head = f"available_node_types.{name}", types[name]
    if head.get("resources", {}).get("GPU", 0):
        yield f"{key}.resources.GPU: the head must have no GPU, but has {head['resources']['GPU']}"
    if head.get("max_workers") != 0:
        yield f"{key}.max_workers: must be 0 for the head, but is {head.get('max_workers')}"


def _workers(config: Config) -> Iterator[str]:
    """GPUs by spot first, and the same ones on demand where there is no spot capacity."""
    types: Config = config.get("available_node_types", {})
    if not types:
        return
    kind = config["provider"]["type"]
    workers = {k: v for k, v in types.items() if k != config.get("head_node_type")}
    for name, one in workers.items():
        if not one.get("resources", {}).get("GPU", 0):
            yield f"available_node_types.{name}.resources.GPU: a worker must have a GPU"
    spot = {k: v for k, v in workers.items() if provider_checks.is_spot(kind, v["node_config"])}
    steady = {k: v for k, v in workers.items() if k not in spot}
    if not spot or not steady:
        yield "available_node_types: must have a spot type and one on demand to fall back on"
        return
    by_score = any(SCORER in one for one in config.get("head_start_ray_commands", []))
    if not by_score and min(v.get("priority", 0) for v in spot.values()) <= max(
        v.get("priority", 0) for v in steady.values()
    ):
        yield f"available_node_types.{next(iter(spot))}.priority: spot must come before on demand"
    if by_score and not all("spot" in name for name in spot):
        yield f"available_node_types.{next(iter(spot))}: cluster/spot_first.py goes by the name"
    if {str(v["resources"]) for v in spot.values()} != {
        str(v["resources"]) for v in steady.values()
    }:
        yield f"available_node_types.{next(iter(steady))}.resources: must be those of the spot type"


def _idle(config: Config) -> Iterator[str]:
    minutes = config.get("idle_timeout_minutes")
    if not isinstance(minutes, int | float) or not 0 < minutes <= 30:
        yield f"idle_timeout_minutes: must be in (0, 30], but is {minutes}"


def _mounts(config: Config, root: Path) -> Iterator[str]:
    """Every source is in the project, and nothing that must stay here goes along."""
    for target, source in config.get("file_mounts", {}).items():
        key, path = f"file_mounts.{target}", Path(source)
        if path.is_absolute() or source.startswith("~") or ".." in path.parts:
            yield f"{key}: must be relative to the project, but is {source}"
        elif not (root / path).exists():
            yield f"{key}: {source} does not exist in the project"
        elif path == Path() or _ignored(root, path):
            yield f"{key}: {source} would take results, caches or .git along"
    if not config.get("file_mounts"):
        yield "file_mounts: must bring the project"


def _ignored(root: Path, path: Path) -> bool:
    if path.parts[0] == ".git":
        return True
    command = ["git", "-C", str(root), "check-ignore", "-q", str(path)]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


CHECKS: tuple[Callable[[Config], Iterator[str]], ...] = (
    _limits,
    _head,
    _workers,
    _idle,
    provider_checks.unknown_keys,
    provider_checks.ingress,
    provider_checks.node_configs,
)
