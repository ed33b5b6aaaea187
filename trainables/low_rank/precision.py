"""In what precision products are taken, of the network and of moments, and how they round."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

# A singular value this many times below the rounding error of the moment carries no direction.
ROUNDING_MARGIN = 100.0
# Rounding of sums of 4,096 products, in eps of their type; a test holds 2.5 in float32.
PRODUCT_ERROR = 4.0


@contextmanager
def computing(device: torch.device, precision: str) -> Iterator[None]:
    """What a forward pass of a network runs under: autocast for "bfloat16", TF32 where there is.

    Autocast rounds the inputs of products and convolutions, and leaves the parameters alone.
    """
    rounded = precision == "bfloat16"
    with (
        network_products(device),
        torch.autocast(device.type, dtype=torch.bfloat16, enabled=rounded),
    ):
        yield


@contextmanager
def network_products(device: torch.device) -> Iterator[None]:
    """Lets a CUDA device take float32 products and convolutions in TF32; a CPU has no such mode.

    TF32 rounds factors to 11 bits and adds up in float32. The setting is torch's own global one,
    and is as before afterwards.
    """
    with _float32_products(device, "tf32"):
        yield


@contextmanager
def exact_products(device: torch.device) -> Iterator[None]:
    """Takes products in the type of their factors: without autocast and without TF32."""
    with torch.autocast(device.type, enabled=False), _float32_products(device, "ieee"):
        yield


def product_type(device: torch.device) -> torch.dtype:
    """What products of second moments are taken in: float64 on a CPU, elsewhere float32.

    float64 takes twice the time of float32 on a CPU; on a GPU it may take 64 times.
    """
    return torch.float64 if device.type == "cpu" else torch.float32


def rounding(matrix: Tensor) -> float:
    """Share of the Frobenius norm of a second moment below which singular values are noise.

    Of the decomposition, in the type of `matrix` (dim, dim), or of the products that it was added
    up from (see `product_type`), whichever is more. Products were measured to move an entry by
    less than `PRODUCT_ERROR` · eps · √(C_ii C_jj), so the whole by that · tr C ≤ √dim ‖C‖.
    """
    dim = matrix.shape[0]
    decomposed = ROUNDING_MARGIN * dim * torch.finfo(matrix.dtype).eps
    multiplied = PRODUCT_ERROR * math.sqrt(dim) * torch.finfo(product_type(matrix.device)).eps
    return max(decomposed, multiplied)


@contextmanager
def _float32_products(device: torch.device, kind: str) -> Iterator[None]:
    if device.type != "cuda":
        yield
        return
    # These names are torch's since 2.9; mixing them with allow_tf32 is an error.
    convolutions = torch.backends.cudnn.conv  # type: ignore[attr-defined]
    places = (torch.backends.cuda.matmul, convolutions)
    before = [place.fp32_precision for place in places]
    try:
        for place in places:
            place.fp32_precision = kind
        yield
    finally:
        for place, old in zip(places, before, strict=True):
            place.fp32_precision = old
