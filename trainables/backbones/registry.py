"""Networks by name: the embedded ones, and any image model that timm knows."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType

from torch import nn

from trainables.backbones import timm_compat  # noqa: F401  (must precede timm)
from trainables.backbones.compact_vit import create_compact_vit
from trainables.backbones.plain_vit import create_plain_vit
from trainables.backbones.timm_lookup import create_timm_network
from trainables.backbones.weights import load_checkpoint

from timm.models.convnext import ConvNeXt  # isort: skip
from timm.models.swin_transformer import SwinTransformer  # isort: skip
from timm.models.vision_transformer import VisionTransformer  # isort: skip


# fmt: off
PRETRAINED: Mapping[str, Callable[[], nn.Module]] = MappingProxyType({
    "compact_vit": create_compact_vit,
    "plain_vit": create_plain_vit,
})
# With random weights. The small networks of each kind are for tests and have no others.
EMBEDDED: Mapping[str, Callable[[], nn.Module]] = MappingProxyType({
    "compact_vit": partial(create_compact_vit, pretrained=False),
    "plain_vit": partial(create_plain_vit, pretrained=False),
    "test_vit": partial(
        VisionTransformer, img_size=8, patch_size=4, in_chans=1, num_classes=0, embed_dim=16,
        depth=2, num_heads=2,
    ),
    "test_swin": partial(
        SwinTransformer, img_size=8, patch_size=2, in_chans=1, num_classes=0, embed_dim=16,
        depths=(1, 2), num_heads=(2, 2), window_size=2,
    ),
    # ls_init_value as pretrained networks have it after training; 1e-6 would mute every branch.
    "test_convnext": partial(
        ConvNeXt, patch_size=1, in_chans=1, num_classes=0, depths=(1, 1, 1, 1),
        dims=(16, 16, 32, 32), ls_init_value=1.0,
    ),
})
# fmt: on


def create_network(
    name: str, pretrained: bool, checkpoint: str | None, image_size: int, channels: int
) -> nn.Module:
    """Creates a network without a classifier, from images (n, c, h, w) to features (n, width).

    Pretrained weights come from the file `checkpoint` or, without one, from timm, which fits
    them to `image_size` (pixels) and `channels`: it resamples the position embedding and sums
    or repeats the colour channels of the first layer. RuntimeError if pretrained weights are
    neither on disk nor reachable. ValueError if the file does not hold the weights of this
    network.
    """
    embedded = EMBEDDED.get(name)
    if pretrained and checkpoint is not None:
        network = create_network(name, False, None, image_size, channels)
        by_timm = embedded is None
        load_checkpoint(network, Path(checkpoint), name, image_size, channels, by_timm)
        return network
    if embedded is not None:
        return PRETRAINED.get(name, embedded)() if pretrained else embedded()
    try:
        return create_timm_network(name, image_size, channels, pretrained)
    except OSError as error:
        # Hub errors (no network, entry not in the cache) all derive from OSError.
        raise RuntimeError(
            f"the pretrained weights of {name} are not in the local cache and could not be "
            f"downloaded; fetch them beforehand on this machine, or name a local file of them "
            f"in backbone.checkpoint."
        ) from error
