"""The command line: what it says, what it returns, and what it leaves behind."""

import errno
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from study import run
from study.analysis.contrasts import Later
from study.commands import main, session
