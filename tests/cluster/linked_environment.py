"""Puts an environment in ~/lrcs-env at once: cluster/install.sh finds it and installs nothing.

    python tests/cluster/linked_environment.py PROJECT

It has all packages of the one that runs this file, but the project itself is that of ~/lrcs, as
if it had been installed from there. PROJECT is the folder whose lock it is stamped with.
"""

import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

ENVIRONMENT, SOURCE = Path("~/lrcs-env").expanduser(), Path("~/lrcs").expanduser()
# As in cluster/install.sh. Where they differ, it installs, which fails without a network.
STAMP = "echo study | cat - cluster/constraints-cuda.txt pyproject.toml | cksum"


def main(project: Path) -> None:
    """Makes the environment."""
    venv.create(ENVIRONMENT, symlinks=True)
    packages = sysconfig.get_path("purelib")
    own = sysconfig.get_path("purelib", "venv", {"base": str(ENVIRONMENT)})
    # Files that end in .pth are not read in the folders that one names: no editable install.
    (Path(own) / "linked.pth").write_text(f"{SOURCE}\n{packages}\n", encoding="utf-8")
    for name in ("ray", "mlflow"):
        _, _, body = (Path(sys.prefix) / "bin" / name).read_text(encoding="utf-8").partition("\n")
        script = ENVIRONMENT / "bin" / name
        script.write_text(f"#!{ENVIRONMENT}/bin/python\n{body}", encoding="utf-8")
        script.chmod(0o755)
    stamp = subprocess.run(STAMP, shell=True, cwd=project, check=True, stdout=subprocess.PIPE)
    (ENVIRONMENT / ".lrcs-stamp").write_bytes(stamp.stdout)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
