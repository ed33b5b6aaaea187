"""`--open`: the page of a study and MLflow's pages of its runs, in a person's browser."""

import os
import sys
import time
import webbrowser

from study.commands.session import catch_interrupts
from study.ledger import StudyFolder
from study.system import say
from study.tracking import UnusableUiError, served

# Without one of these a browser of Linux would be one in this terminal.
SCREENS = ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")


def open_study(folder: StudyFolder) -> int:
    """Opens the report, starts MLflow and opens the runs; returns when the person ends it.

    Addresses are said, too. Returns the exit code of `study/run.py`: 1 where there is nothing to
    open.
    """
    page = folder.report / "report.html"
    if page.is_file():
        _show("Report", page.resolve().as_uri())
    else:
        say(f"There is no report yet: {folder.command('--report')}")
    with catch_interrupts() as interrupts:
        try:
            with served(folder, lambda: bool(interrupts)) as (address, lives):
                if interrupts:
                    return 0
                _show("MLflow", address)
                if lives is not None:
                    say("Ctrl-C ends MLflow.")
                while lives is not None and lives() and not interrupts:
                    time.sleep(0.2)
        except UnusableUiError as error:
            say(f"{error}.", error=True)
            return 0 if page.is_file() else 1
    return 0


def _show(what: str, address: str) -> None:
    say(f"{what}: {address}")
    if not _opened(address):
        say("  (no browser was found here: open the address in yours)")


def _opened(address: str) -> bool:
    if sys.platform == "linux" and not any(map(os.environ.get, SCREENS)):
        return False
    try:
        return webbrowser.open(address)
    except webbrowser.Error:
        return False
