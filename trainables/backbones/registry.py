"""Networks by name: the embedded ones, and any vision transformer that timm knows."""

from torch import nn

from trainables import timm_compat  # noqa: F401  (must precede timm)
from trainables.backbones.compact_vit import create_compact_vit

import timm  # isort: skip
from timm.models.vision_transformer import VisionTransformer  # isort: skip


def create_network(name: str, pretrained: bool, image_size: int, channels: int) -> nn.Module:
    """Creates a network without a classifier, from images (n, c, h, w) to features (n, width).

    timm fits pretrained weights to `image_size` (pixels) and `channels`: it resamples the
    position embedding and sums or repeats the colour channels of the first layer.

    Raises:
        RuntimeError: if pretrained weights are neither on disk nor reachable.
    """
    if name == "compact_vit":
        return create_compact_vit(pretrained)
    if name == "test_vit":
        embedded: nn.Module = VisionTransformer(
            img_size=8,
            patch_size=4,
            in_chans=1,
            num_classes=0,
            embed_dim=16,
            depth=2,
            num_heads=2,
        )
        return embedded
    try:
        network: nn.Module = timm.create_model(
            name,
            pretrained=pretrained,
            num_classes=0,
            img_size=image_size,
            in_chans=channels,
        )
    except OSError as error:
        # Hub errors (no network, entry not in the cache) all derive from OSError.
        raise RuntimeError(
            f"the pretrained weights of {name} are not in the local cache and could not be "
            f"downloaded; fetch them beforehand on this machine."
        ) from error
    return network
