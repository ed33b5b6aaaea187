"""Which layers of a network can take branches: linear layers and 1×1 convolutions."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn

from trainables.backbones.info import LayerInfo
from trainables.low_rank.branch import is_pointwise

PLAIN = (nn.Linear.forward, nn.Conv2d.forward)
# What can stand at the end of a network.
NORMS = (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, nn.modules.batchnorm._BatchNorm)


def layers_of(network: nn.Module) -> tuple[LayerInfo, ...]:
    """Every linear layer and every 1×1 convolution of one group, in the order of the network.

    Layers that do more than a linear map are left out: those of classes with a forward of their
    own (standardised weights, for one) and convolutions that pad their inputs.
    """
    layers = []
    for path, module in network.named_modules():
        if getattr(type(module), "forward", None) not in PLAIN:
            continue
        if isinstance(module, nn.Linear):
            fused = path.endswith("qkv") and module.out_features == 3 * module.in_features
            kind = "qkv" if fused else "linear"
            layers.append(LayerInfo(path, kind, module.in_features))
        elif isinstance(module, nn.Conv2d) and is_pointwise(module):
            layers.append(LayerInfo(path, "conv", module.in_channels))
    return tuple(layers)


def final_norm(network: nn.Module) -> nn.LayerNorm | None:
    """The last normalisation of a network, where it is a layer normalisation with weights."""
    norms = [
        module
        for module in network.modules()
        if isinstance(module, NORMS) and module.weight is not None
    ]
    return norms[-1] if norms and isinstance(norms[-1], nn.LayerNorm) else None


@contextmanager
def watch_calls(modules: Mapping[str, nn.Module]) -> Iterator[list[str]]:
    """Gives a list that fills with the names of those of `modules` that are called inside `with`.

    A network may read a layer's weight instead of calling it: a branch would do nothing there.
    """
    called: list[str] = []

    def note(name: str) -> Any:
        return lambda _module, _inputs: called.append(name)

    handles = [module.register_forward_pre_hook(note(name)) for name, module in modules.items()]
    try:
        yield called
    finally:
        for handle in handles:
            handle.remove()
