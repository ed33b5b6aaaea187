"""Lets timm import where torchvision's compiled operators do not match a CPU build of torch.

timm imports torchvision, whose only published wheel is built against CUDA. Beside a CPU torch
its import fails because the operators ``nms`` and ``qnms`` are absent; declaring their schemas
first is enough, since nothing here calls them. Import this module before timm, in every process.
"""

import torch

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


_LIBRARY = declare_missing_operators()
