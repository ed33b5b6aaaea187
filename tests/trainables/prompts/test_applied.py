"""Prompts in attention and among tokens: golden numbers by hand, and what they leave alone."""

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.trainables.draws import seeded
from trainables.backbones.prompted import places_of
from trainables.backbones.registry import create_network
from trainables.prompts.applied import (
    PrefixAttention,
    as_prefix,
    component_weights,
    cosine,
    nearest,
    prompted,
)

from timm.models.vision_transformer import Attention, VisionTransformer  # isort: skip

Q = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
K = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
V = torch.tensor([[1.0, 2.0], [3.0, 4.0]])


class Given(nn.Module):
    """A projection that gives q, k and v of one head whatever the tokens are."""

    def forward(self, tokens: Tensor) -> Tensor:
        return torch.cat([Q, K, V], 1)[None]


def attention(fused: bool) -> Any:
    base = Attention(2, num_heads=1, qkv_bias=False)
    base.qkv, base.proj, base.fused_attn = Given(), nn.Identity(), fused
    return base


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ((1.0, 1.0), (10.0, 0.0), ((5.005560, 1.593327), (4.707909, 2.583960))),
        # Not neutral: its key scores 0.
        ((0.0, 0.0), (0.0, 0.0), ((1.248255, 2.000000), (2.182104, 3.018525))),
    ],
)
def test_a_prefix_by_hand(
    key: tuple[float, ...], value: tuple[float, ...], expected: Any, fused: bool
) -> None:
    given = (torch.tensor(key).view(1, 1, 1, 2), torch.tensor(value).view(1, 1, 1, 2))
    out = PrefixAttention(attention(fused), given)(torch.zeros(1, 2, 2))
    torch.testing.assert_close(out[0], torch.tensor(expected), atol=1e-6, rtol=0)


def test_without_a_prefix_by_hand() -> None:
    out = attention(fused=True)(torch.zeros(1, 2, 2))
    expected = torch.tensor([[1.660477, 2.660477], [2.608859, 3.608859]])
    torch.testing.assert_close(out[0], expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("fused", [True, False])
def test_a_prefix_image_by_image_and_head_by_head(fused: bool) -> None:
    """Two heads of width 4 whose own queries and keys are normed; the prefix is not."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        base: Any = Attention(8, num_heads=2, qkv_bias=True, qk_norm=True, norm_layer=nn.LayerNorm)
        nn.init.uniform_(base.q_norm.weight)
        nn.init.uniform_(base.k_norm.bias)
    base.fused_attn = fused
    x, rows = drawn(3, 5, 8), drawn(3, 2, 2, 8, seed=1)
    with torch.no_grad():
        out = PrefixAttention(base, as_prefix(rows, heads=2))(x)
        q, k, v = base.qkv(x).view(3, 5, 3, 2, 4).unbind(2)
        for image in range(3):
            mixed = []
            for head, part in enumerate((slice(4), slice(4, 8))):
                keys = torch.cat([rows[image, 0, :, part], base.k_norm(k[image, :, head])])
                values = torch.cat([rows[image, 1, :, part], v[image, :, head]])
                weights = (base.q_norm(q[image, :, head]) @ keys.T / 2).exp()
                mixed.append(weights @ values / weights.sum(1, keepdim=True))
            expected = base.proj(torch.cat(mixed, 1))
            torch.testing.assert_close(out[image], expected, atol=1e-6, rtol=1e-5)


def test_a_mask_is_refused() -> None:
    wrapped = PrefixAttention(attention(fused=True), (torch.zeros(1, 1, 1, 2),) * 2)
    with pytest.raises(ValueError, match="a prefix must be seen by all tokens"):
        wrapped(torch.zeros(1, 2, 2), attn_mask=torch.ones(2, 2))


def test_cosines_and_the_nearest_keys_by_hand() -> None:
    queries = torch.tensor([[1.0, 2.0, 2.0], [0.0, 1.0, 0.0]])
    keys = torch.cat([torch.eye(3), torch.ones(1, 3)])
    similarity = cosine(queries, keys)
    expected = torch.tensor([[0.333333, 0.666667, 0.666667, 0.962250], [0, 1, 0, 0.577350]])
    torch.testing.assert_close(similarity, expected, atol=1e-6, rtol=0)
    # Of equals the smaller number.
    assert nearest(similarity, 2).tolist() == [[3, 1], [1, 3]]
    # A row without direction has none.
    assert float(cosine(torch.zeros(1, 3), keys).abs().max()) == 0


def test_component_weights_by_hand() -> None:
    attention = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0], [1.0, 1.0, 0.0]])
    keys = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [1.0, 1.0, 0.0]])
    found = component_weights(torch.tensor([[1.0, 2.0, 2.0]]), attention, keys)
    expected = torch.tensor([[0.447214, 0.707107, 0.948683]])
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_component_weights_of_other_lengths_and_of_nothing() -> None:
    """(3, 0, 4) ⊙ (1, 1, 1) is 5 long; keys count by their direction; (0, 1, 0) leaves nothing."""
    attention = torch.tensor([[1.0, 1.0, 1.0], [2.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
    keys = torch.tensor([[0.0, 0.0, 2.0], [1.0, 1.0, 1.0], [0.0, 5.0, 0.0]])
    found = component_weights(torch.tensor([[3.0, 0.0, 4.0]]), attention, keys)
    torch.testing.assert_close(found, torch.tensor([[0.8, 0.160128, 0.0]]), atol=1e-6, rtol=0)
    # By the definition, one by one.
    queries, attention, keys = drawn(4, 6), drawn(5, 6, seed=1), drawn(5, 6, seed=2)
    expected = functional.cosine_similarity(queries[:, None] * attention, keys[None], dim=2)
    torch.testing.assert_close(component_weights(queries, attention, keys), expected)


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_rows_of_keys_reach_keys_and_rows_of_values_values(count: int) -> None:
    rows = torch.arange(count * 2 * 3 * 4.0).view(count, 2, 3, 4)
    keys, values = as_prefix(rows, heads=2)
    assert keys.shape == values.shape == (count, 2, 3, 2)
    for image, row, head in itertools.product(range(count), range(3), range(2)):
        own = slice(2 * head, 2 * head + 2)
        assert torch.equal(keys[image, head, row], rows[image, 0, row, own])
        assert torch.equal(values[image, head, row], rows[image, 1, row, own])


NETWORKS: dict[str, dict[str, Any]] = {
    "class token": {},
    "mean": {"class_token": False, "global_pool": "avg"},
    "registers": {"reg_tokens": 2, "no_embed_class": True},
}


@pytest.fixture(params=NETWORKS)
def network(request: pytest.FixtureRequest) -> Iterator[Any]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield VisionTransformer(
            img_size=8, patch_size=4, in_chans=1, num_classes=0, embed_dim=16, depth=2, num_heads=2,
            **NETWORKS[request.param],
        ).eval()  # fmt: skip


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=seeded(seed))


def prefix(n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    return as_prefix(drawn(n, 2, 3, 16, seed=seed), heads=2)


def test_without_prompts_no_bit_changes(network: Any) -> None:
    images = drawn(3, 1, 8, 8)
    features, outputs = prompted(network, images, {}, None)
    assert outputs is None and torch.equal(features, network(images))


def test_prompts_leave_the_network_as_it_was(network: Any) -> None:
    images = drawn(3, 1, 8, 8)
    before, modules = network(images), [*network.modules()]
    other = prompted(network, images, {1: prefix(3)}, drawn(3, 2, 16))[0]
    assert not torch.allclose(other, before)
    with pytest.raises(RuntimeError):
        prompted(network, images, {0: prefix(2)}, drawn(3, 2, 16))
    assert [*network.modules()] == modules and torch.equal(network(images), before)


def test_a_prefix_is_that_of_its_block_and_its_image(network: Any) -> None:
    images, given = drawn(4, 1, 8, 8), prefix(4)
    whole = prompted(network, images, {1: given}, None)[0]
    for image in range(4):
        own = tuple(rows[image : image + 1] for rows in given)
        alone = prompted(network, images[image : image + 1], {1: (own[0], own[1])}, None)[0]
        torch.testing.assert_close(alone[0], whole[image], atol=1e-6, rtol=1e-5)
    assert not torch.allclose(whole, prompted(network, images, {0: given}, None)[0], atol=1e-3)


def test_inserted_tokens_are_behind_class_and_registers_and_are_not_pooled(network: Any) -> None:
    """As the network itself gives it where the tokens are put in by hand before block 0."""
    images, tokens = drawn(3, 1, 8, 8), drawn(3, 2, 16, seed=1)
    features, outputs = prompted(network, images, {}, tokens)
    front = network.num_prefix_tokens
    with torch.no_grad():
        x = network._pos_embed(network.patch_embed(images))
        x = network.blocks(torch.cat([x[:, :front], tokens, x[:, front:]], 1))
        kept = torch.cat([x[:, :front], x[:, front + 2 :]], 1)
        expected = network.forward_head(network.norm(kept))
        own = network.fc_norm(network.norm(x[:, front : front + 2]))
    torch.testing.assert_close(features, expected)
    assert outputs is not None
    torch.testing.assert_close(outputs, own)


def test_gradients_reach_prompts_and_nothing_else(network: Any) -> None:
    network.requires_grad_(False)
    rows, tokens = drawn(3, 2, 3, 16).requires_grad_(), drawn(3, 2, 16).requires_grad_()
    features, outputs = prompted(network, drawn(3, 1, 8, 8), {0: as_prefix(rows, 2)}, tokens)
    assert outputs is not None
    (features.sum() + outputs.square().sum()).backward()
    for given in (rows, tokens):
        assert given.grad is not None and bool(given.grad.abs().sum() > 0)
    assert all(parameter.grad is None for parameter in network.parameters())


@pytest.mark.parametrize("name", ["test_swin", "test_convnext"])
def test_windows_and_convolutions_have_no_places(name: str) -> None:
    assert places_of(create_network(name, False, None, 8, 1)) is None


def test_another_attention_has_no_places(network: Any) -> None:
    assert places_of(network) is not None
    network.blocks[1].attn = type("Other", (Attention,), {})(16)
    assert places_of(network) is None
