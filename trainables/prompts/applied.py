"""Prompts in a stock Vision Transformer of timm: as keys and values of a block, or as tokens.

This file needs torch alone and goes along with exported weights.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

# Keys and values, each (n, heads, length, width of a head).
Prefix: TypeAlias = tuple[Tensor, Tensor]

# Squared lengths below count as this one.
LEAST_SQUARE = 1e-12


class PrefixAttention(nn.Module):
    """The attention of a block with keys and values put before its own, along the tokens.

    Queries get none, so the number of tokens stays. A prefix passes neither the projection nor the
    norm of keys. One of zeros is not neutral: its keys score 0 and draw attention.
    """

    def __init__(self, base: nn.Module, prefix: Prefix) -> None:
        super().__init__()
        self.base: Any = base
        self.fused_attn = bool(self.base.fused_attn)
        self._prefix = prefix

    def forward(
        self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False
    ) -> Tensor:
        """Maps tokens (n, tokens, width) to as many."""
        if attn_mask is not None or is_causal:
            raise ValueError("a prefix must be seen by all tokens, but there is a mask.")
        base, (n, tokens, _) = self.base, x.shape
        qkv = base.qkv(x).reshape(n, tokens, 3, base.num_heads, -1).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        q, k = base.q_norm(q), base.k_norm(k)
        k, v = (
            torch.cat([given.to(own.dtype), own], 2)
            for given, own in zip(self._prefix, (k, v), strict=True)
        )
        if self.fused_attn:
            mixed = functional.scaled_dot_product_attention(q, k, v, scale=base.scale)
        else:
            mixed = ((q * base.scale) @ k.transpose(-2, -1)).softmax(-1) @ v
        mixed = mixed.transpose(1, 2).reshape(n, tokens, -1)
        # Networks of later releases of timm may have a norm and a gate there.
        if (norm := getattr(base, "norm", None)) is not None:
            mixed = norm(mixed)
        if (gate := getattr(base, "gate", None)) is not None:
            mixed = mixed * gate(x).sigmoid()
        out: Tensor = base.proj(mixed)
        return out


class PromptedNetwork(nn.Module):
    """A network with a classifier and the prompts that a trial learned: images to scores.

    `prompts` are tensors by name and `how` says what to do with them, both as the `exported` of
    the method whose name `how` has gives them.
    """

    def __init__(
        self, network: nn.Module, prompts: Mapping[str, Tensor], how: Mapping[str, Any]
    ) -> None:
        super().__init__()
        self.network: Any = network
        self.how = dict(how)
        for name, tensor in prompts.items():
            self.register_buffer(name, tensor)

    def forward(self, images: Tensor) -> Tensor:
        """Scores (n, classes) of images (n, channels, size, size)."""
        features = self.network.forward_features(images)
        queries = self.network.forward_head(features, pre_logits=True)
        if self.how["method"] == "l2p":
            return self._by_tokens(images, queries)
        heads = self.network.blocks[0].attn.num_heads
        prefixes = {block: as_prefix(rows, heads) for block, rows in self._rows(queries)}
        return prompted(self.network, images, prefixes, None)[0]

    def _by_tokens(self, images: Tensor, queries: Tensor) -> Tensor:
        named: Any = self
        ids = nearest(cosine(queries, named.keys), self.how["top_k"])
        tokens = named.prompts[ids].flatten(1, 2) + named.position
        _, outputs = prompted(self.network, images, {}, tokens)
        scores: Tensor = self.network.head(outputs.mean(1) if outputs is not None else queries)
        return scores

    def _rows(self, queries: Tensor) -> Iterator[tuple[int, Tensor]]:
        """By block, the rows (n, 2, length, width) of the keys and values of each image."""
        named: Any = self
        for at, block in enumerate(self.how.get("general_blocks", ())):
            yield block, named.general[at].expand(len(queries), *named.general[at].shape)
        for at, block in enumerate(self.how["blocks"]):
            if self.how["method"] == "coda_prompt":
                alpha = component_weights(queries, named.attention[at], named.keys[at])
                yield block, (alpha @ named.prompts[at]).view(len(queries), 2, self.how["rows"], -1)
            else:
                yield block, named.own[self._tasks(queries), at]

    def _tasks(self, queries: Tensor) -> Tensor:
        named: Any = self
        if self.how["method"] == "dual_prompt":
            return nearest(cosine(queries, named.keys), 1)[:, 0]
        hidden = functional.gelu(functional.linear(queries, named.fc1_weight, named.fc1_bias))
        mapped = queries + functional.linear(hidden, named.fc2_weight, named.fc2_bias)
        normed = functional.layer_norm(mapped, mapped.shape[1:], named.norm_weight, named.norm_bias)
        scores = functional.linear(normed, named.identity_weight, named.identity_bias)
        tasks: Tensor = named.task_of_class[scores.argmax(1)]
        return tasks


def prompted(
    network: nn.Module, images: Tensor, prefixes: Mapping[int, Prefix], tokens: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """What `network` makes of images, and the outputs (n, P, width) of inserted tokens if any.

    `prefixes` are by number of block. `tokens` (n, P, width) come before block 0, behind class
    and register tokens, and are not among those that the network pools; their outputs passed its
    last norm.
    """
    whole: Any = network
    with _prefixed(whole.blocks, prefixes), _inserted(whole, tokens) as outputs:
        out: Tensor = network(images)
    return out, whole.fc_norm(whole.norm(outputs[0])) if outputs else None


def cosine(queries: Tensor, keys: Tensor) -> Tensor:
    """Cosines (n, keys) of queries (n, width) and keys (keys, width)."""
    return unit(queries) @ unit(keys).T


def unit(rows: Tensor) -> Tensor:
    """Rows (…, width) divided by their lengths."""
    return rows * rows.square().sum(-1, keepdim=True).clamp(min=LEAST_SQUARE).rsqrt()


def nearest(similarity: Tensor, count: int) -> Tensor:
    """The `count` columns (n, count) of largest similarity (n, keys); of equals the first."""
    return similarity.sort(dim=1, descending=True, stable=True).indices[:, :count]


def component_weights(queries: Tensor, attention: Tensor, keys: Tensor) -> Tensor:
    """CODA-Prompt's α (n, m): the cosine of query ⊙ attention_m and key_m.

    Queries (n, width); attention and keys (m, width).
    """
    along = queries @ (attention * unit(keys)).T
    square = queries.square() @ attention.square().T
    return along * square.clamp(min=LEAST_SQUARE).rsqrt()


def as_prefix(rows: Tensor, heads: int) -> Prefix:
    """Keys and values of rows (n, 2, length, width), split into heads."""
    n, _, length, width = rows.shape
    split = rows.reshape(n, 2, length, heads, width // heads).transpose(2, 3)
    return split[:, 0], split[:, 1]


@contextmanager
def _prefixed(blocks: Any, prefixes: Mapping[int, Prefix]) -> Iterator[None]:
    """Puts prefixes before the keys and values of blocks; without one a block stays as it is."""
    own = {number: blocks[number].attn for number in prefixes}
    try:
        for number, prefix in prefixes.items():
            blocks[number].attn = PrefixAttention(own[number], prefix)
        yield
    finally:
        for number, attention in own.items():
            blocks[number].attn = attention


@contextmanager
def _inserted(network: Any, tokens: Tensor | None) -> Iterator[list[Tensor]]:
    """Gives a list, for the outputs of inserted tokens before the last norm."""
    outputs: list[Tensor] = []
    if tokens is None:
        yield outputs
        return
    front = network.num_prefix_tokens
    end = front + tokens.shape[1]

    def insert(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        x, *rest = inputs
        return (torch.cat([x[:, :front], tokens.to(x.dtype), x[:, front:]], 1), *rest)

    def take_out(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        (x,) = inputs
        outputs.append(x[:, front:end])
        return (torch.cat([x[:, :front], x[:, end:]], 1),)

    handles = [
        network.blocks[0].register_forward_pre_hook(insert),
        network.norm.register_forward_pre_hook(take_out),
    ]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()
