"""Which layers of a network can take branches: linear layers and 1×1 convolutions."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn

from trainables.catalog import LayerInfo
from trainables.low_rank.branch import NO_PADDING

PLAIN = (nn.Linear.forward, nn.Conv2d.forward)


def layers_of(network: nn.Module) -> tuple[LayerInfo, ...]:
    """Every linear layer and every 1×1 convolution of one group, in the order of the network.

    Layers that do more than a linear map are left out: those of classes with a forward of their
    own (standardised weights, for one) and convolutions that pad their inputs.
    """
    found = []
    for path, module in network.named_modules():
        if getattr(type(module), "forward", None) not in PLAIN:
            continue
        if isinstance(module, nn.Linear):
            fused = path.endswith("qkv") and module.out_features == 3 * module.in_features
            kind = "qkv" if fused else "linear"
            found.append(LayerInfo(path, kind, module.in_features))
        elif isinstance(module, nn.Conv2d) and _is_pointwise(module):
            found.append(LayerInfo(path, "conv", module.in_channels))
    return tuple(found)


@contextmanager
def watch_calls(modules: Mapping[str, nn.Module]) -> Iterator[list[str]]:
    """Gives a list that fills with the names of those of `modules` that are called inside `with`.

    A network may read a layer's weight instead of calling it: a branch would do nothing there.
    """
    called: list[str] = []

    def note(name: str) -> Any:
        return lambda _module, _inputs: called.append(name)

    handles = [one.register_forward_pre_hook(note(name)) for name, one in modules.items()]
    try:
        yield called
    finally:
        for handle in handles:
            handle.remove()


def _is_pointwise(convolution: nn.Conv2d) -> bool:
    return (
        convolution.kernel_size == (1, 1)
        and convolution.groups == 1
        and convolution.padding in NO_PADDING
    )
