"""Several ssh hosts on one machine, by Linux namespaces; everything ends with who started them.

Each host has its own network card, process ids, name, home, /tmp, /run, /dev/shm and sshd, and
nobody but the others reaches it. The rest of the file system is shared. By hand:

    python -m tests.cluster.hosts FOLDER 3

starts 10.77.0.1 to 10.77.0.3 and a shell on a fourth host, whose key opens them as root.
"""

import contextlib
import functools
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from tests.cluster import host_stages
from tests.cluster.host_stages import CLIENT, NEW, address, call, environment

STAGES = host_stages.__file__
PROGRAMS = ("unshare", "nsenter", "mount", "ip", "sshd", "ssh", "ssh-keygen", "rsync")
# In the command lines of what makes a host a host.
OWN = (STAGES, "sshd")
SECONDS = 30
# Cards joined to a bridge, as the hosts are: some machines allow namespaces but not this.
TRIAL = "ip link add br0 type bridge && ip link add a0 type veth && ip link set a0 master br0"


class Hosts:
    """`count` hosts, numbered from 1, and the host CLIENT; close() ends all that runs there.

    Args:
        folder: a new folder for what the hosts write. `folder`/shared is visible to all of them,
            `folder`/host1/tmp is what the first one has in /tmp.
        count: how many.
        visible: folders that every host may read though they are in a home or in /tmp.
    """

    def __init__(self, folder: Path, count: int, visible: Sequence[Path]) -> None:
        self.folder, self.shared = folder, folder / "shared"
        self.shared.mkdir(parents=True)
        for key in ("id", "host_key"):
            call("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / key))
        paths = [str(place.resolve()) for place in visible]
        stage = [sys.executable, STAGES, "network", str(folder), str(count)]
        # The write end of its standard input closes with this process, however it ends.
        self._process = subprocess.Popen(
            [*_unshare(), *stage, *paths], stdin=subprocess.PIPE, env=environment()
        )
        self._pids: dict[int, int] = {}
        try:
            for number in (*range(1, count + 1), CLIENT):
                marks = [stage[0], stage[1], "host", str(folder), str(number)]
                self._pids[number] = self._wait(functools.partial(_pid_of, marks))
            for number in range(1, count + 1):
                self._wait(functools.partial(self._answers, number))
        except BaseException:
            self.close()
            raise

    def command(self, host: int, shell: str) -> list[str]:
        """The command of this machine that runs a login shell's line on a host."""
        enter = ["nsenter", "--target", str(self._pids[host])]
        if os.geteuid() != 0:
            enter += ["--user", "--preserve-credentials"]
        return [*enter, "--mount", "--net", "--pid", "--uts", "bash", "--login", "-c", shell]

    def start(self, host: int, shell: str, log: Path) -> subprocess.Popen[bytes]:
        """Starts a login shell's line on a host; what it says goes to the file `log`."""
        with log.open("ab") as file:
            return subprocess.Popen(
                self.command(host, shell),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=environment(),
            )

    def run(
        self, host: int, shell: str, seconds: float = SECONDS
    ) -> subprocess.CompletedProcess[str]:
        """Runs a login shell's line on a host; stdout holds both streams."""
        return subprocess.run(
            self.command(host, shell),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=seconds,
            check=False,
            env=environment(),
        )

    def set_card(self, host: int, state: str) -> None:
        """Takes a host off the network (down), or puts it there again (up)."""
        done = self.run(host, f"ip link set eth0 {state}")
        assert done.returncode == 0, done.stdout

    def kill(self, host: int, title: str) -> int:
        """Kills every process of a host whose command line holds `title`; returns how many."""
        return _kill(pid for pid, line in self._processes(host) if title in line)

    def crash(self, host: int) -> int:
        """Kills all that runs on a host but its init and sshd, and says how many that were.

        What is on its disk stays, and it answers again at once: as after a power failure.
        """
        return _kill(pid for pid, line in self._processes(host) if not _is_own(line))

    def running(self, host: int) -> list[str]:
        """The command lines of all processes of a host but its own: init and sshd."""
        lines = [line for _, line in self._processes(host)]
        return [line for line in lines if line and not _is_own(line)]

    def memory(self) -> int:
        """The bytes of memory that all processes of all hosts have for themselves."""
        total = 0
        for host in self._pids:
            for pid, _ in self._processes(host):
                with contextlib.suppress(OSError):
                    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8")
                    lines = (line.split() for line in rollup.splitlines())
                    total += sum(int(line[1]) * 1024 for line in lines if line[0] == "Pss:")
        return total

    def close(self) -> None:
        """Ends every process of every host."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(SECONDS)

    def _answers(self, host: int) -> bool:
        done = self.run(CLIENT, f"ssh -o ConnectTimeout=1 {address(host)} true")
        return done.returncode == 0

    def _processes(self, host: int) -> Iterator[tuple[int, str]]:
        space = _pid_space(self._pids[host])
        for folder in Path("/proc").glob("[0-9]*"):
            pid = int(folder.name)
            with contextlib.suppress(OSError):
                if _pid_space(pid) == space:
                    yield pid, " ".join(_arguments(pid)).strip()

    def _wait(self, found: Callable[[], int | None]) -> int:
        end = time.monotonic() + SECONDS
        while not (pid := found()):
            if self._process.poll() is not None or time.monotonic() > end:
                raise RuntimeError("The hosts must start within 30 seconds, but they did not.")
            time.sleep(0.1)
        return pid


def why_not() -> str | None:
    """Why this machine cannot have hosts, or None if it can."""
    missing = [name for name in PROGRAMS if shutil.which(name, path=environment()["PATH"]) is None]
    if missing:
        return f"needs {', '.join(missing)} (Debian: openssh-server, rsync, iproute2, util-linux)"
    trial = subprocess.run(
        [*_unshare(), "sh", "-c", f"mount -t tmpfs tmpfs /run && {TRIAL}"],
        capture_output=True,
        text=True,
        check=False,
        env=environment(),
    )
    if trial.returncode == 0:
        return None
    said = " ".join(trial.stderr.split()) or f"exit code {trial.returncode}"
    return f"needs root, or namespaces that a user may make: {said}"


def _kill(pids: Iterable[int]) -> int:
    found = list(pids)
    for pid in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return len(found)


def _is_own(line: str) -> bool:
    return any(name in line for name in OWN)


def _unshare() -> list[str]:
    # Without root: a user namespace with the ids that sshd needs (/etc/subuid, newuidmap).
    user = () if os.geteuid() == 0 else ("--map-root-user", "--map-auto")
    return ["unshare", *user, *NEW]


def _arguments(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")


def _pid_space(pid: int) -> str:
    return str(Path(f"/proc/{pid}/ns/pid").readlink())


def _pid_of(beginning: Sequence[str]) -> int | None:
    """The process whose command line begins so."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if _arguments(int(folder.name))[: len(beginning)] == list(beginning):
                return int(folder.name)
    return None


def _by_hand(folder: Path, count: int) -> None:
    visible = [Path(sys.prefix), Path(sys.base_prefix), Path(__file__).parents[2]]
    hosts = Hosts(folder, count, visible)
    try:
        subprocess.run(hosts.command(CLIENT, "exec bash"), check=False, env=environment())
    finally:
        hosts.close()


if __name__ == "__main__":
    _by_hand(Path(sys.argv[1]).resolve(), int(sys.argv[2]))
