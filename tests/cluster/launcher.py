"""A Ray cluster of cluster/onprem.yaml, launched for real on the hosts of tests/cluster/hosts.py.

The file is the shipped one with its EDIT lines filled in and, for the workers, `--num-gpus=1`:
GPUs that Ray believes in and torch does not see, so trials that are given one train on the CPU.
Every command of the file runs as it is. cluster/install.sh finds its work done: an environment
that is linked to the one of the tests, with the stamp of an installation, is there before.
RAY_AUTH_MODE is that of the file.
"""

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from study.ledger.ledger import Record
from tests.cluster import linked_environment
from tests.cluster.hosts import CLIENT, Hosts, address

PROJECT = Path(__file__).parents[2]
HEAD, WORKERS = 1, (2, 3)
# Of every host, on top of the file's.
SETTINGS = {
    # A lost node is noticed within seconds. Ray's own values take more than a minute.
    "AUTOSCALER_HEARTBEAT_TIMEOUT_S": 10,
    "AUTOSCALER_NODE_START_WAIT_S": 60,
    "RAY_health_check_period_ms": 1000,
    "RAY_health_check_timeout_ms": 3000,
    # torch does not see the GPUs.
    "LRCS_SKIP_CHECKS": "gpu",
}
UP_SECONDS, DOWN_SECONDS, STUDY_SECONDS = 300, 120, 300
# Prints all runs that MLflow's server has, by the name of their experiment.
RUNS = """
import json, os, urllib.request

def search(what, **body):
    address = os.environ["MLFLOW_TRACKING_URI"] + f"/api/2.0/mlflow/{what}/search"
    header = {"Content-Type": "application/json"}
    request = urllib.request.Request(address, json.dumps(body).encode(), header)
    return json.load(urllib.request.urlopen(request)).get(what, [])

found = {}
for study in search("experiments", max_results=100):
    for run in search("runs", experiment_ids=[study["experiment_id"]], max_results=1000):
        tags = {tag["key"]: tag["value"] for tag in run["data"]["tags"]}
        known = found.setdefault(study["name"], [])
        known.append([tags["study_item"], run["info"]["status"]])
print(json.dumps(found))
"""


class Cluster:
    """A head, and workers with a pretended GPU each.

    Args:
        hosts: one for the head and for each worker.
    """

    def __init__(self, hosts: Hosts) -> None:
        self.hosts = hosts
        # When `ray up` was called.
        self.began = 0.0
        # What it took.
        self.up_seconds = 0.0
        # A copy: a test may change the source that `ray up` brings.
        self.source = hosts.shared / "project"
        self._file = hosts.shared / "onprem.yaml"
        self._file.write_text(yaml.safe_dump(_filled_in(hosts.shared)), encoding="utf-8")
        self.source.mkdir()
        for name in yaml.safe_load(self._file.read_text(encoding="utf-8"))["file_mounts"].values():
            copy = shutil.copytree if (PROJECT / name).is_dir() else shutil.copy
            copy(PROJECT / name, self.source / name)
        lines = "\n".join(f"export {key}={value}" for key, value in SETTINGS.items())
        for host in (HEAD, *WORKERS):
            self.at(host, f"{sys.executable} {linked_environment.__file__} {PROJECT}")
            self.at(host, f"cat >> ~/.profile <<'END'\n{lines}\nEND")

    def up(self) -> None:
        """Runs `ray up` and returns when it does: workers join later."""
        self.began = time.time()
        self.at(CLIENT, self.line("ray up --yes", self._file), UP_SECONDS)
        self.up_seconds = time.time() - self.began

    def down(self) -> None:
        """Ends the cluster as cluster/onprem.yaml says."""
        stop = "'bash ~/lrcs/cluster/stop.sh'"
        self.at(CLIENT, self.line("ray exec", self._file, stop), DOWN_SECONDS)
        self.at(CLIENT, self.line("ray down --yes", self._file), DOWN_SECONDS)

    def submit(self, study: dict[str, Any]) -> "Submitted":
        """Starts a study with `ray submit`."""
        file = self.hosts.shared / f"{study['name']}.yaml"
        file.write_text(yaml.safe_dump(study, sort_keys=False), encoding="utf-8")
        return Submitted(self, study["name"], str(file))

    def resume(self, study: dict[str, Any]) -> "Submitted":
        """Goes on with a study that was submitted before."""
        return Submitted(self, study["name"], f"--resume {study['name']}")

    def line(self, command: str, file: Path, arguments: str = "") -> str:
        """A line for the client, which types it in the project's folder, in its environment."""
        quiet = "RAY_USAGE_STATS_ENABLED=0 AUTOSCALER_NODE_START_WAIT_S=60"
        place = f"cd {self.source} && export PATH={sys.prefix}/bin:$PATH"
        return f"{place} && {quiet} {command} {file} {arguments}"

    def at(self, host: int, shell: str, seconds: float = 120) -> str:
        """Runs a line on a host and returns what it said; it must not fail."""
        done = self.hosts.run(host, shell, seconds)
        assert done.returncode == 0, f"{shell}\n{done.stdout[-8000:]}"
        return done.stdout

    def wait_for_gpus(self, count: int) -> None:
        """Waits until the workers that have joined have so many GPUs."""
        end = time.monotonic() + UP_SECONDS
        while self.gpus() != count:
            assert time.monotonic() < end, self.at(HEAD, "ray status")
            time.sleep(1)

    def gpus(self) -> float:
        """The GPUs of the workers that have joined, as the autoscaler says every few seconds."""
        logs = sorted(self.hosts.folder.glob(f"host{HEAD}/tmp/ray/session_2*/logs/monitor.log"))
        text = logs[-1].read_text(encoding="utf-8", errors="replace") if logs else ""
        return float((re.findall(r"/([0-9.]+) GPU", text) or [0])[-1])

    def runs(self, study: str) -> list[tuple[str, str]]:
        """What each run of a study is about and its status, as MLflow's server tells the head."""
        script = self.hosts.shared / "runs.py"
        script.write_text(RUNS, encoding="utf-8")
        # Lines before are those of a login shell.
        line = self.at(HEAD, f"python {script}").strip().splitlines()[-1]
        return [(item, status) for item, status in json.loads(line).get(study, [])]


class Submitted:
    """A study that `ray submit` runs on the head."""

    def __init__(self, cluster: Cluster, name: str, arguments: str) -> None:
        self._name, self._shared = name, cluster.hosts.shared
        self._said = self._shared / f"{name}.log"
        command = cluster.line(
            "ray submit", self._shared / "onprem.yaml", f"study/run.py {arguments}"
        )
        self._process = cluster.hosts.start(CLIENT, command, self._said)

    @property
    def ledger(self) -> Path:
        """The ledger, where LRCS_STORAGE says; it may not be there yet."""
        found = sorted(self._shared.glob(f"studies/{self._name}-*/ledger.jsonl"))
        return found[0] if found else self._shared / "none"

    def records(self) -> list[Record]:
        """The whole records that are in the ledger by now."""
        text = self.ledger.read_text(encoding="utf-8") if self.ledger.exists() else ""
        return [json.loads(line) for line in text.split("\n")[:-1] if line]

    def wait_until(self, reached: Callable[[list[Record]], bool]) -> None:
        """Waits until the ledger shows something."""
        end = time.monotonic() + STUDY_SECONDS
        while not reached(self.records()):
            assert self._process.poll() is None, f"the study has ended:\n{self.said()}"
            assert time.monotonic() < end, f"the study stands still:\n{self.said()}"
            time.sleep(0.2)

    def lose(self) -> None:
        """Waits for an end that must be a bad one."""
        assert self._process.wait(STUDY_SECONDS) != 0, self.said()

    def finish(self) -> str:
        """Waits for the end, which must be a good one, and returns what was printed."""
        try:
            code = self._process.wait(STUDY_SECONDS)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the study does not end:\n{self.said()}") from None
        assert code == 0, self.said()
        return self.said()

    def said(self) -> str:
        """What the study and `ray submit` have printed, without the codes of the live table."""
        text = self._said.read_text(encoding="utf-8", errors="replace")
        return re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", text)[-20000:]


def _filled_in(storage: Path) -> dict[str, Any]:
    """cluster/onprem.yaml for the hosts here."""
    text = (PROJECT / "cluster" / "onprem.yaml").read_text(encoding="utf-8")
    text, changed = re.subn(r"LRCS_STORAGE=\S+", f"LRCS_STORAGE={storage}", text)
    assert changed == 1
    config: dict[str, Any] = yaml.safe_load(text)
    workers = [address(host) for host in WORKERS]
    config["provider"] = {"type": "local", "head_ip": address(HEAD), "worker_ips": workers}
    config["auth"] = {"ssh_user": "root", "ssh_private_key": "~/.ssh/id_ed25519"}
    join, start = "--address=$RAY_HEAD_IP:6379", config["worker_start_ray_commands"]
    assert join in start[-1]
    start[-1] = start[-1].replace(join, f"{join} --num-gpus=1")
    return config
