"""What happens inside the namespaces of tests/cluster/hosts.py, which starts this file.

It imports nothing but the standard library: on a host there is no project yet.
"""

import contextlib
import os
import pwd
import shutil
import socket
import stat
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

NETWORK, CLIENT = "10.77.0", 100
NEW = ("--net", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc")
# What `ip` and `sshd` may be missing from PATH for.
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def address(host: int) -> str:
    """The address of a host."""
    return f"{NETWORK}.{host}"


def environment() -> dict[str, str]:
    """What a program on a host sees, whatever is set here."""
    home = pwd.getpwuid(0).pw_dir
    return {"PATH": f"{PATH}:{os.environ['PATH']}", "HOME": home, "USER": "root", "LANG": "C.UTF-8"}


def call(*command: str) -> None:
    """Runs a command that must not fail."""
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


def _network(folder: Path, count: int, visible: Sequence[str]) -> None:
    """Inside of the outer namespaces: a bridge, and every host with a card on it."""
    # `ip netns` keeps its names in /run.
    call("mount", "-t", "tmpfs", "tmpfs", "/run")
    call("ip", "link", "add", "br0", "type", "bridge")
    call("ip", "link", "set", "br0", "up")
    for number in (*range(1, count + 1), CLIENT):
        space, card = f"host{number}", f"card{number}"
        call("ip", "netns", "add", space)
        call(
            *("ip", "link", "add", card, "type", "veth"), *("peer", "name", "eth0", "netns", space)
        )
        call("ip", "link", "set", card, "master", "br0", "up")
        inner = [option for option in NEW if option != "--net"]
        stage = [sys.executable, __file__, "host", str(folder), str(number), *visible]
        subprocess.Popen(
            ["ip", "netns", "exec", space, "unshare", *inner, *stage], stdin=subprocess.DEVNULL
        )
    # This is process 1 of its namespace: everything ends with it.
    sys.stdin.read()


def _host(folder: Path, number: int, visible: Sequence[str]) -> None:
    """Inside of a host's namespaces: its own folders, its address, its sshd."""
    own = folder / f"host{number}"
    home = Path(pwd.getpwuid(0).pw_dir)
    socket.sethostname(own.name)
    for place in (home, Path("/tmp")):
        _replace(place, own / place.name, [*visible, str(folder)])
    for memory in ("/run", "/dev/shm"):
        call("mount", "-t", "tmpfs", "tmpfs", memory)
    names = own / "hosts"
    names.write_text(f"127.0.0.1 localhost\n{address(number)} {own.name}\n", encoding="utf-8")
    call("mount", "--bind", str(names), "/etc/hosts")
    # sshd refuses an account whose password is locked, or whose entry it cannot read.
    entry = own / "shadow"
    entry.write_text("root:*:20000:0:99999:7:::\n", encoding="utf-8")
    entry.chmod(0o600)
    call("mount", "--bind", str(entry), "/etc/shadow")
    call("ip", "link", "set", "lo", "up")
    call("ip", "address", "add", f"{address(number)}/24", "dev", "eth0")
    call("ip", "link", "set", "eth0", "up")
    _open_door(home, folder)
    while True:
        with contextlib.suppress(ChildProcessError):
            os.wait()


def _replace(place: Path, new: Path, visible: Sequence[str]) -> None:
    """Puts an empty folder in another's place, with what has to stay visible in it."""
    new.mkdir(parents=True)
    new.chmod(stat.S_IMODE(place.stat().st_mode))
    for folder in visible:
        if Path(folder).is_relative_to(place):
            target = new / Path(folder).relative_to(place)
            if not target.exists():
                target.mkdir(parents=True)
                call("mount", "--bind", folder, str(target))
    call("mount", "--rbind", str(new), str(place))


def _open_door(home: Path, folder: Path) -> None:
    """Starts sshd for root, with the key that every host has."""
    keys, public = home / ".ssh", (folder / "id.pub").read_text(encoding="utf-8")
    keys.mkdir(mode=0o700)
    (keys / "authorized_keys").write_text(public, encoding="utf-8")
    for source, target in (("id", keys / "id_ed25519"), ("host_key", Path("/run/host_key"))):
        shutil.copy(folder / source, target)
        target.chmod(0o600)
    settings = f"Host {NETWORK}.*\nStrictHostKeyChecking no\nUserKnownHostsFile /dev/null\n"
    (keys / "config").write_text(f"{settings}LogLevel ERROR\n", encoding="utf-8")
    for name in (".profile", ".bashrc"):
        with contextlib.suppress(FileNotFoundError):
            shutil.copy(f"/etc/skel/{name}", home)
    Path("/run/sshd").mkdir()
    options = ("HostKey=/run/host_key", "PermitRootLogin=yes", "StrictModes=no", "UsePAM=no")
    flags = [word for option in options for word in ("-o", option)]
    sshd = shutil.which("sshd", path=environment()["PATH"])
    assert sshd is not None
    subprocess.Popen([sshd, "-D", "-f", "/dev/null", *flags], stdin=subprocess.DEVNULL)


if __name__ == "__main__":
    run = {"network": _network, "host": _host}[sys.argv[1]]
    run(Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])
