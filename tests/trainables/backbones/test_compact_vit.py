import re

import numpy as np
import pytest
import torch

from tests.trainables.draws import seeded
from trainables.backbones.compact_vit import WEIGHTS_FILE, ConvPatchEmbed, create_compact_vit
from trainables.backbones.pretraining.augment import augment, unpack
from trainables.backbones.pretraining.concepts import (
    PretrainingSet,
    check_disjoint,
    concept_of,
    strict_key,
)
from trainables.backbones.pretraining.probe import (
    Split,
    extract_features,
    linear_accuracy,
    nearest_class_mean_accuracy,
)
from trainables.backbones.pretraining.train import learning_rate
from trainables.data_sets.icons.icon_set import load_icons, load_icons_metadata


def test_features_have_the_stated_shape_and_repeat_whatever_the_batch() -> None:
    images = torch.rand(6, 1, 32, 32, generator=seeded())
    model = create_compact_vit()
    assert not model.training
    with torch.inference_mode():
        features, again, few = model(images), create_compact_vit()(images), model(images[:2])
    assert features.shape == (6, 160)
    assert torch.equal(features, again)
    assert features.isfinite().all()
    assert torch.allclose(features[:2], few, atol=1e-4)


def test_blocks_are_stock_and_have_fused_qkv() -> None:
    model = create_compact_vit(pretrained=False)
    shapes = [m.weight.shape for n, m in model.named_modules() if n.endswith("attn.qkv")]
    assert shapes == [torch.Size([480, 160])] * 4
    blocks = model.get_submodule("blocks").children()
    assert all(type(block).__module__.startswith("timm.") for block in blocks)


def test_weights_are_half_precision_complete_and_small() -> None:
    assert WEIGHTS_FILE.stat().st_size <= 6_000_000
    state = create_compact_vit().state_dict()
    floats = [value for value in state.values() if value.is_floating_point()]
    assert all(torch.equal(value, value.half().float()) for value in floats)
    variances = [value for name, value in state.items() if name.endswith("running_var")]
    assert variances
    assert not any(torch.equal(value, torch.ones_like(value)) for value in variances)


def test_other_patch_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="patches must be 8 pixels wide"):
        ConvPatchEmbed(img_size=32, patch_size=4, in_chans=1, embed_dim=16)


@pytest.mark.parametrize(
    ("name", "concept"),
    [
        ("rocket-launch-outline", "launch-rocket"),
        ("outline-wifi-off", "off-wifi"),
        ("rocket-20-filled", "rocket"),
        ("battery-3", "3-battery"),
        ("outline", "outline"),
    ],
)
def test_variants_name_one_concept(name: str, concept: str) -> None:
    assert concept_of(name) == concept


def test_strict_key_sees_through_order_number_and_plural() -> None:
    assert strict_key("circle-check-16") == strict_key("checks-circle-02-bold")
    assert strict_key("rocket") != strict_key("rockets-launch")


@pytest.mark.slow
def test_a_benchmark_name_or_bitmap_in_pretraining_is_refused() -> None:
    blank = np.full((1, 64, 32), 255, np.uint8)
    zero = np.zeros(1, np.int64)
    check_disjoint(PretrainingSet(blank, zero, zero, ("no-such-concept",)))
    synonym = load_icons_metadata()["classes"][0][-1]
    with pytest.raises(RuntimeError, match="must not be in the benchmark"):
        check_disjoint(PretrainingSet(blank, zero, zero, (f"new+{synonym}-outline",)))
    levels = load_icons(64).images[:1] // np.uint8(17)
    packed = (levels[..., 0::2] << np.uint8(4)) | levels[..., 1::2]
    with pytest.raises(RuntimeError, match="also a benchmark image"):
        check_disjoint(PretrainingSet(packed, zero, zero, ("no-such-concept",)))


def test_augmented_views_are_pixels_on_white() -> None:
    torch.manual_seed(0)
    packed = torch.full((40, 64, 32), 255, dtype=torch.uint8)
    packed[:, 24:40, 12:20] = 0
    views = augment(unpack(packed), 32)
    assert views.shape == (40, 1, 32, 32)
    assert 0.0 <= views.min() < 0.1
    assert views.max() <= 1.0
    assert (views[:, 0, 0, 0] > 0.99).all()


def test_schedule_warms_up_and_ends_at_zero() -> None:
    assert learning_rate(1.0, 0.0) < 0.01
    assert learning_rate(1.0, 0.02) == pytest.approx(1.0)
    assert learning_rate(1.0, 1.0) == pytest.approx(0.0, abs=1e-9)


def test_probes_solve_separable_features_and_not_noise() -> None:
    torch.manual_seed(0)
    labels = torch.arange(5).repeat(20)
    centres = torch.randn(5, 8) * 10.0
    train = Split(centres[labels] + torch.randn(100, 8), labels)
    test = Split(centres[labels] + torch.randn(100, 8), labels)
    noise = Split(torch.randn(100, 8), labels)
    assert nearest_class_mean_accuracy(train, test) > 0.95
    assert linear_accuracy(train, test, 1e-3) > 0.95
    assert nearest_class_mean_accuracy(train, noise) < 0.5


@pytest.mark.nightly
def test_card_states_the_nearest_class_mean_accuracy_that_the_weights_reach() -> None:
    card = WEIGHTS_FILE.with_name("compact_vit_card.md").read_text(encoding="utf-8")
    row = re.search(r"\| compact_vit \| ([0-9.]+) \| ([0-9.]+) \|", card)
    assert row is not None
    icons = load_icons(32)
    features = extract_features(create_compact_vit(), icons)
    everything = Split(features, torch.from_numpy(icons.labels))
    is_test = torch.from_numpy(icons.is_test)
    accuracy = nearest_class_mean_accuracy(everything.subset(~is_test), everything.subset(is_test))
    assert accuracy == pytest.approx(float(row[2]), abs=0.01)
