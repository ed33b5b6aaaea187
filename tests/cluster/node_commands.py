"""The shell commands of a cluster file: their syntax, what they call, what they set."""

import os
import re
import subprocess
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Config = dict[str, Any]
LISTS = (
    "initialization_commands",
    "setup_commands",
    "head_setup_commands",
    "worker_setup_commands",
    "head_start_ray_commands",
    "worker_start_ray_commands",
)
STARTS = ("head_start_ray_commands", "worker_start_ray_commands")
# What every node must know, and what it must be; None: any path that is absolute.
VARIABLES = {
    "LRCS_STORAGE": None,
    "LRCS_DATA_ROOT": None,
    "LRCS_CACHE_ROOT": None,
    "MLFLOW_TRACKING_URI": "http://127.0.0.1:5000",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_USAGE_STATS_REPORT_URL": "http://127.0.0.1:9",
}
SOURCED = ". ~/lrcs.env;"
INSTALL = re.compile(r"bash ~/lrcs/cluster/install\.sh (\S+)((?: \S+)*)$")


def mistakes(config: Config, root: Path) -> Iterator[str]:
    """All that is wrong with the commands of a file."""
    for key in LISTS:
        for index, command in enumerate(config.get(key, [])):
            yield from (f"{key}[{index}]: {one}" for one in _shell(command, root))
    yield from _environment(config)
    yield from _install(config, root)
    yield from _starts(config)


def _shell(command: str, root: Path) -> Iterator[str]:
    # As Ray wraps it.
    checked = subprocess.run(
        ["bash", "-n", "-c", f"({command})"], capture_output=True, text=True, check=False
    )
    if checked.returncode != 0:
        yield f"is not valid shell: {checked.stderr.strip()}"
    for script in re.findall(r"~/lrcs/([\w./-]+)", command):
        if not (root / script).is_file():
            yield f"calls {script}, which does not exist in the project"


def environment(config: Config) -> dict[str, str]:
    """What a node's shell knows after the first setup command: it is run, in an empty home."""
    command = (config.get("setup_commands") or ["true"])[0]
    with tempfile.TemporaryDirectory() as home:
        script = f"({command}) && . ~/lrcs.env && env -0"
        clean = {"HOME": home, "PATH": os.environ["PATH"]}
        done = subprocess.run(
            ["bash", "-c", script], env=clean, capture_output=True, text=True, check=False
        )
    pairs = [one.partition("=") for one in done.stdout.split("\0") if one]
    return {name: value.replace(home, "~") for name, _, value in pairs}


def _environment(config: Config) -> Iterator[str]:
    have = environment(config)
    for name, wanted in VARIABLES.items():
        value = have.get(name)
        if value is None:
            yield f"setup_commands[0]: must export {name} in ~/lrcs.env"
        elif wanted is not None and value != wanted:
            yield f"setup_commands[0]: {name} must be {wanted}, but is {value}"
        elif wanted is None and not value.startswith(("/", "~/")):
            yield f"setup_commands[0]: {name} must be an absolute path, but is {value}"
    if not have.get("PATH", "").startswith("~/lrcs-env/bin:"):
        yield "setup_commands[0]: PATH must start with ~/lrcs-env/bin"
    shared = have.get("LRCS_SHARE")
    several = config["provider"].get("type") != "local"
    if shared is None or (several and not shared):
        yield "setup_commands[0]: LRCS_SHARE must say where the nodes' common folder is"


def _install(config: Config, root: Path) -> Iterator[str]:
    """The project comes from a lock that exists, with extras that exist, on every node."""
    calls = [match for one in config.get("setup_commands", []) if (match := INSTALL.match(one))]
    if len(calls) != 1:
        yield "setup_commands: must call install.sh once, as its whole command"
        return
    lock, extras = calls[0].group(1), calls[0].group(2).split()
    path = f"cluster/constraints-{lock}.txt"
    if not (root / path).is_file():
        yield f"setup_commands: install.sh {lock}: there is no {path}"
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for extra in set(extras) - project["optional-dependencies"].keys():
        yield f"setup_commands: install.sh {lock} {extra}: pyproject.toml has no such extra"
    kind = config["provider"].get("type")
    if kind != "local" and extras != [kind]:
        yield f"setup_commands: the head needs the extra {kind} to start workers, not {extras}"


def _starts(config: Config) -> Iterator[str]:
    for key in STARTS:
        for index, command in enumerate(config.get(key, [])):
            if not command.startswith(SOURCED):
                yield f"{key}[{index}]: must start with '{SOURCED}'"
    head = config.get(STARTS[0], [])
    worker = config.get(STARTS[1], [])
    start = next((one for one in head if "ray start --head" in one), "")
    key = f"{STARTS[0]}[{head.index(start) if start else 0}]"
    if "--dashboard-host=127.0.0.1" not in start:
        yield f"{key}: ray start must have --dashboard-host=127.0.0.1"
    if "--autoscaling-config=~/ray_bootstrap_config.yaml" not in start:
        yield f"{key}: ray start must have --autoscaling-config, or no worker comes"
    if sum("cluster/mlflow.sh" in one for one in head) != 1:
        yield f"{STARTS[0]}: must start MLflow once, by cluster/mlflow.sh"
    if any("mlflow" in one for one in worker):
        yield f"{STARTS[1]}: MLflow belongs on the head alone"
    for commands, role in ((head, "head"), (worker, "worker")):
        if not any(f"cluster/storage.sh {role}" in one for one in commands):
            yield f"{role}_start_ray_commands: must call cluster/storage.sh {role}"
    if config["provider"].get("type") == "local":
        if "RAY_enable_autoscaler_v2=0" not in start:
            yield f"{key}: workers of the provider local need RAY_enable_autoscaler_v2=0"
        if config["provider"].get("worker_ips") and "--num-gpus=0" not in start:
            yield f"{key}: the head must have --num-gpus=0"
