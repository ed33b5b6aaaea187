"""In what precision products are taken: of the network as configured, of moments exactly."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


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
