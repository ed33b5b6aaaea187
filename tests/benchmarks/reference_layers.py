"""The released recipe, written straight from its description: what our layers are compared with.

Nothing here is tuned in either direction: each old pair costs what the recipe says it costs.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

RANK = 10
ALPHA = 0.8
# Of random factors, as large as trained ones are: what they hold does not change what they cost.
DEVIATION = 0.02


class Pairs(nn.Module):
    """The pairs (`up` (out, rank), `down` (rank, in)) of all tasks of one slice, from task 1.

    All are frozen but the last: the one in training, of which `train_down` says whether both
    factors learn or `up` alone.
    """

    def __init__(self, width: int, tasks: int, train_down: bool) -> None:
        super().__init__()
        self.ups = nn.ParameterList(_random(width, RANK) for _ in range(tasks))
        self.downs = nn.ParameterList(_random(RANK, width) for _ in range(tasks))
        self.requires_grad_(False)
        self.ups[-1].requires_grad_(True)
        self.downs[-1].requires_grad_(train_down)

    def __len__(self) -> int:
        return len(self.ups)


class ReferenceInfLoRAAttention(nn.Module):
    """Self-attention with branches on k and v: each pair is multiplied out in each forward pass.

    Softmax is written out over all pairs of tokens. `qkv` and `proj` are the frozen layers of
    the pretrained attention.
    """

    def __init__(self, qkv: nn.Linear, proj: nn.Linear, heads: int, tasks: int) -> None:
        super().__init__()
        self.qkv = qkv
        self.proj = proj
        self.heads = heads
        self.k_pairs = Pairs(proj.in_features, tasks, train_down=False)
        self.v_pairs = Pairs(proj.in_features, tasks, train_down=False)

    def forward(
        self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False
    ) -> Tensor:
        """Maps tokens (n, t, width) to the same shape; timm gives no mask."""
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        k = k + functional.linear(x, _product(self.k_pairs))
        v = v + functional.linear(x, _product(self.v_pairs))
        out: Tensor = self.proj(unfused_attention(q, k, v, self.heads))
        return out


class ReferenceSDLoRALinear(nn.Module):
    """A fused qkv with directions on q and v: each old pair is applied to the tokens in turn.

    h = W0 x + Σ_{k<t} α_k up_k down_k x / (‖up_k‖ ‖down_k‖) + α_t up_t down_t x, with one
    magnitude per task that all layers share.
    """

    def __init__(self, qkv: nn.Linear, alphas: nn.ParameterList) -> None:
        super().__init__()
        self.qkv = qkv
        self.alphas = alphas
        self.q_pairs = Pairs(qkv.in_features, len(alphas), train_down=True)
        self.v_pairs = Pairs(qkv.in_features, len(alphas), train_down=True)

    def forward(self, x: Tensor) -> Tensor:
        """Maps tokens (n, t, width) to (n, t, 3 · width)."""
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        q = q + self._applied(self.q_pairs, x)
        v = v + self._applied(self.v_pairs, x)
        return torch.cat([q, k, v], dim=-1)

    def _applied(self, pairs: Pairs, x: Tensor) -> Tensor:
        last = len(pairs) - 1
        total = torch.zeros_like(x)
        for task, (up, down) in enumerate(zip(pairs.ups, pairs.downs, strict=True)):
            out = x @ down.T @ up.T
            if task < last:
                out = out / (torch.linalg.matrix_norm(up) * torch.linalg.matrix_norm(down))
            total = total + self.alphas[task] * out
        return total


class ReferenceAttention(nn.Module):
    """Self-attention with softmax written out, around a layer that gives q, k and v."""

    def __init__(self, qkv: nn.Module, proj: nn.Linear, heads: int) -> None:
        super().__init__()
        self.qkv = qkv
        self.proj = proj
        self.heads = heads

    def forward(
        self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False
    ) -> Tensor:
        """Maps tokens (n, t, width) to the same shape; timm gives no mask."""
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        out: Tensor = self.proj(unfused_attention(q, k, v, self.heads))
        return out


class FusedAttention(nn.Module):
    """The same with torch's fused attention: what a merged network runs."""

    def __init__(self, qkv: nn.Module, proj: nn.Linear, heads: int) -> None:
        super().__init__()
        self.qkv = qkv
        self.proj = proj
        self.heads = heads

    def forward(self, x: Tensor) -> Tensor:
        """Maps tokens (n, t, width) to the same shape."""
        q, k, v = (_by_head(one, self.heads) for one in self.qkv(x).chunk(3, dim=-1))
        out = functional.scaled_dot_product_attention(q, k, v)
        mapped: Tensor = self.proj(out.transpose(1, 2).reshape(x.shape))
        return mapped


def unfused_attention(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """softmax(q kᵀ / √d) v of tokens (n, t, width), every matrix of scores kept for backward."""
    q, k, v = (_by_head(one, heads) for one in (q, k, v))
    scores = (q @ k.transpose(-2, -1)) * q.shape[-1] ** -0.5
    out: Tensor = scores.softmax(dim=-1) @ v
    return out.transpose(1, 2).flatten(2)


def moment_on_host(total: Tensor, x: Tensor) -> Tensor:
    """`total` (width, width), kept on the host, plus Σ x xᵀ of tokens (n, t, width)."""
    return total + (x.transpose(1, 2) @ x).sum(0).cpu()


def _product(pairs: Pairs) -> Tensor:
    """Σ up_k down_k, (out, in)."""
    products = [up @ down for up, down in zip(pairs.ups, pairs.downs, strict=True)]
    return torch.stack(products).sum(0)


def _by_head(x: Tensor, heads: int) -> Tensor:
    """Tokens (n, t, width) as (n, heads, t, width / heads)."""
    split: Tensor = x.unflatten(-1, (heads, -1))
    return split.transpose(1, 2)


def _random(rows: int, columns: int) -> nn.Parameter:
    return nn.Parameter(DEVIATION * torch.randn(rows, columns))
