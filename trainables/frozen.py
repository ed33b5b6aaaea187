"""Features of images by the network as it was pretrained: computed once a machine, then looked up.

Only of images that are not augmented. A unit of what is kept are the images of one class that a
stream uses as one thing: seeds and numbers of tasks share them, and as a unit is always computed
by itself, its bits are the same whoever did it.
"""

import hashlib
import json
from contextlib import nullcontext
from importlib.metadata import version

import numpy as np
import torch
from torch import Tensor

from trainables.backbones.adapted import AdaptedBackbone
from trainables.config import TrialConfig
from trainables.data.batches import FORWARD_BATCH, TaskImages, to_unit
from trainables.data.cache.cache import cache_root
from trainables.data.cache.features import Features, KnownFeatures
from trainables.data.cache.folders import file_name
from trainables.data.images import ImageSource
from trainables.data.stream import ImageSet


class FrozenFeatures:
    """Features by a network as it is now, which is the pretrained one; see `AdaptedBackbone.query`.

    They are kept on this machine where `config` says of which trial they are (None: nowhere), and
    the images have a hash.
    """

    def __init__(self, model: AdaptedBackbone, config: TrialConfig | None = None) -> None:
        self._model = model
        self._config = config
        # A tensor tells by its version that it was written into.
        self._weights = {
            name: (weight, weight._version) for name, weight in model.state_dict().items()
        }
        self._known: KnownFeatures | None = None
        self._source: ImageSource | None = None

    def holds(self) -> bool:
        """Whether the network is that of the start: nothing added to it, nothing written into."""
        return len(self._model.state_dict()) == len(self._weights) and all(
            weight._version == version for weight, version in self._weights.values()
        )

    @torch.no_grad()
    def of(self, images: ImageSet) -> Tensor:
        """Features (n, width) of images in order, looked up or computed, on their device.

        The network must be the pretrained one, or add no more to it than `query` leaves out.
        """
        units = {_name(rows): rows for rows in images.by_class()}
        known = self._known_of(images)
        found = {} if known is None else known.read(units)
        missing = units.keys() - found.keys()
        if missing:
            with nullcontext() if known is None else known.adding():
                if known is not None:
                    # Another process may have computed them meanwhile.
                    found |= known.read(missing)
                new = {
                    name: self._computed(images, rows)
                    for name, rows in units.items()
                    if name not in found
                }
                if known is not None and new:
                    known.add(new)
                found |= new
        # A class that comes twice, as in no stream, has its rows twice.
        whole = np.concatenate([found[_name(rows)] for rows in images.by_class()])
        return torch.from_numpy(whole).to(images.labels.device)

    def _computed(self, images: ImageSet, rows: Tensor) -> Features:
        batches = (images.source.views(some) for some in rows.split(FORWARD_BATCH))
        found = torch.cat([self._model.query(to_unit(batch)) for batch in batches])
        features: Features = found.float().cpu().numpy()
        return features

    def _known_of(self, images: ImageSet) -> KnownFeatures | None:
        if images.source is not self._source and self._config is not None:
            # Units are named by rows, which say nothing without the source that they are of.
            self._known, self._source = None, images.source
            mark = images.source.mark
            if mark is not None:
                name = file_name(self._config.backbone.name)
                key = self._key(self._config, mark, images.labels.device)
                folder = cache_root() / f"{name}_features-{key}"
                self._known = KnownFeatures(folder, self._model.width)
        return self._known

    def _key(self, config: TrialConfig, mark: str, device: torch.device) -> str:
        """Hash of all that a feature depends on, and the bits of it on this machine."""
        cuda = device.type == "cuda"
        computer = (
            torch.cuda.get_device_name(device)
            if cuda
            else f"{torch.backends.cpu.get_cpu_capability()} {torch.get_num_threads()}"
        )
        settings = [
            torch.__version__, version("timm"), computer, config.backbone.name,
            config.input_size, config.data.channels, self._model.precision, mark,
        ]  # fmt: skip
        digest = hashlib.sha256(json.dumps(settings).encode())
        weights = {name: weight for name, (weight, _) in self._weights.items()}
        # Not saved, so not among the weights: what pixels are brought to.
        weights |= dict(self._model.inputs.named_buffers(prefix="inputs"))
        for name, weight in sorted(weights.items()):
            # An adapted layer computes what the layer does that it was put around.
            plain = name.replace(".base.", ".")
            digest.update(f"{plain} {weight.dtype} {tuple(weight.shape)}".encode())
            digest.update(weight.detach().contiguous().flatten().cpu().view(torch.uint8).numpy())
        return digest.hexdigest()[:24]


@torch.no_grad()
def plain_features(model: AdaptedBackbone, train: TaskImages) -> Tensor:
    """Features (n, width) of a task's images, not augmented, by a network as it is now."""
    if train.frozen is not None and train.frozen.holds():
        return train.frozen.of(train.data)
    return torch.cat([model(images) for images in train.plain()])


@torch.no_grad()
def plain_queries(model: AdaptedBackbone, train: TaskImages) -> Tensor:
    """Features (n, width) of a task's images, not augmented, by the pretrained network."""
    if train.frozen is not None:
        return train.frozen.of(train.data)
    return torch.cat([model.query(images) for images in train.plain()])


def _name(rows: Tensor) -> str:
    """What a unit of rows of a source is called."""
    return hashlib.sha256(rows.contiguous().numpy().data).hexdigest()[:32]
