import re

import numpy as np
import pytest
import torch

from tests.trainables.draws import seeded
from trainables.backbones.plain_vit import WEIGHTS_FILE, LightPatchEmbed, create_plain_vit
from trainables.backbones.pretraining.characters import CHARACTER, check_characters
from trainables.backbones.pretraining.classifier import views
from trainables.backbones.pretraining.concepts import PretrainingSet, joined
from trainables.backbones.pretraining.probe import glyph_accuracies
from trainables.backbones.pretraining.train import weights_of
from trainables.data_sets.glyphs.glyph_set import load_glyphs_metadata

LAYERS = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")


def test_features_have_the_stated_shape_whatever_the_batch() -> None:
    images = torch.rand(6, 1, 32, 32, generator=seeded())
    model = create_plain_vit()
    assert not model.training
    with torch.inference_mode():
        features, few = model(images), model(images[:2])
    assert features.shape == (6, 160)
    assert features.isfinite().all()
    assert torch.allclose(features[:2], few, atol=1e-4)


def test_blocks_are_stock_and_most_of_the_network_takes_branches() -> None:
    model = create_plain_vit(pretrained=False)
    blocks = list(model.get_submodule("blocks").children())
    assert len(blocks) == 8
    assert all(type(block).__module__.startswith("timm.") for block in blocks)
    # What takes branches holds nine tenths of the weights, and the fused qkv half of that.
    sizes = {path: model.get_parameter(f"blocks.0.{path}.weight").numel() for path in LAYERS}
    adaptable = 8 * sum(sizes.values())
    assert adaptable > 0.9 * sum(parameter.numel() for parameter in model.parameters())
    assert 8 * sizes["attn.qkv"] == adaptable / 2


def test_weights_are_half_precision_complete_and_small() -> None:
    assert WEIGHTS_FILE.stat().st_size <= 8_000_000
    state = create_plain_vit().state_dict()
    floats = [value for value in state.values() if value.is_floating_point()]
    assert all(torch.equal(value, value.half().float()) for value in floats)
    variances = [value for name, value in state.items() if name.endswith("running_var")]
    assert variances
    assert not any(torch.equal(value, torch.ones_like(value)) for value in variances)


def test_other_patch_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="patches must be 8 pixels wide"):
        LightPatchEmbed(img_size=32, patch_size=4, in_chans=1, embed_dim=16)


def test_characters_of_the_benchmark_are_refused_in_pretraining() -> None:
    blank, zero = np.full((1, 64, 32), 255, np.uint8), np.zeros(1, np.int64)
    check_characters(PretrainingSet(blank, zero, zero, (f"{CHARACTER}鬱",)))
    used = load_glyphs_metadata()["characters"][0][-1]
    with pytest.raises(RuntimeError, match="must not be in glyphs"):
        check_characters(PretrainingSet(blank, zero, zero, (f"{CHARACTER}{used}",)))


def test_icons_and_characters_are_drawn_equally_often() -> None:
    def made(names: tuple[str, ...], labels: list[int], pairs: list[int]) -> PretrainingSet:
        packed = np.full((len(labels), 64, 32), 255, np.uint8)
        return PretrainingSet(packed, np.array(labels), np.array(pairs), names)

    icons = made(("house", "tree"), [0, 0, 1], [0, 0, 1])
    both = joined(icons, made((f"{CHARACTER}鬱",), [0], [0]))
    assert both.labels.tolist() == [0, 0, 1, 2] and both.pairs.tolist() == [0, 0, 1, 2]
    assert weights_of(both).tolist() == [0.25, 0.25, 0.5, 1.0]
    assert weights_of(icons).tolist() == [0.25, 0.25, 0.5]


def test_views_of_plain_vit_are_street_renditions() -> None:
    torch.manual_seed(0)
    packed = torch.full((512, 64, 32), 255, dtype=torch.uint8)
    street = views("plain_vit", packed, np.random.default_rng(0)).images
    assert street.shape == (512, 1, 32, 32)
    assert street.min() >= 0.0 and street.max() <= 1.0
    means = street.mean((1, 2, 3))
    # White paper gets other greys, and is turned dark at times.
    assert (means < 0.5).any() and (means > 0.9).any()
    assert (views("compact_vit", packed, np.random.default_rng(0)).images == 1.0).all()


@pytest.mark.nightly
def test_card_states_the_accuracies_on_validation_families_that_the_weights_reach() -> None:
    card = WEIGHTS_FILE.with_name("plain_vit_card.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([0-9.]+) \| ([0-9.]+) \| ([0-9.]+) \|$", card, re.MULTILINE)
    assert len(rows) == 5
    stated = [tuple(map(float, row)) for row in rows]
    reached = glyph_accuracies(create_plain_vit(), [strength for strength, *_ in stated])
    for (_, *both), own in zip(stated, reached, strict=True):
        assert own == pytest.approx(both, abs=0.01)
