"""What another user of the machine has made, where everybody can write."""

import os
from pathlib import Path

import pytest

STRANGER = 65534


def give_away(path: Path) -> None:
    """Makes a file, a folder or a link another user's, or skips the test where it may not."""
    try:
        os.chown(path, STRANGER, STRANGER, follow_symlinks=False)
    except PermissionError:
        pytest.skip("for want of the right to give a file away (root)")


def open_to_all(folder: Path) -> Path:
    """Lets everybody write to a folder, as to /tmp; makes it where it is not there."""
    folder.mkdir(exist_ok=True)
    folder.chmod(0o1777)
    return folder
