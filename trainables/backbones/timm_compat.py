"""Lets timm import where torchvision's operators do not match torch, or /tmp is full of strangers.

timm imports torchvision, whose only published wheel is built against CUDA. Beside a CPU torch
its import fails because the operators ``nms`` and ``qnms`` are absent; declaring their schemas
first is enough, since nothing here calls them.

With torchvision comes torch's compiler, which makes a folder for its results at once, by default
under a name in /tmp that another user can take first. Nothing here is compiled.

Import this module before timm, in every process.
"""

import atexit
import functools
import os
import shutil
import tempfile
from pathlib import Path

import torch

COMPILED = "TORCHINDUCTOR_CACHE_DIR"

SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


def declare_missing_operators() -> torch.library.Library | None:
    """Declares the schemas once and returns the library to keep alive, or None if not needed."""
    if torch.version.cuda is not None or hasattr(torch.ops.torchvision, "nms"):
        return None
    library = torch.library.Library("torchvision", "DEF")
    for schema in SCHEMAS:
        library.define(schema)
    return library


def keep_compiler_out_of_tmp() -> None:
    """Gives torch's compiler a folder of this user's, unless the environment names one."""
    if COMPILED in os.environ:
        return
    try:
        folder = Path.home() / ".cache" / "lrcs" / "torch"
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):
        # There is no home, or none that can be written to.
        folder = Path(tempfile.mkdtemp(prefix="lrcs-torch-"))
        atexit.register(functools.partial(shutil.rmtree, folder, ignore_errors=True))
    os.environ[COMPILED] = str(folder)


keep_compiler_out_of_tmp()
_LIBRARY = declare_missing_operators()
