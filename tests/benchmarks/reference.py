"""The released recipe, written straight from its description: what ours is compared with.

Its layers, a whole training step on timm's ViT-B, and its pass for second moments. Nothing here is
tuned in either direction: each old pair costs what the recipe says it costs.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainables.backbones import timm_compat  # noqa: F401  (must precede timm)

import timm  # isort: skip

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


class ReferenceSDLoRALinear(nn.Module):
    """A frozen fused qkv with directions on q and v: each pair is applied to the tokens in turn.

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
        last = len(self.alphas) - 1
        total = torch.zeros_like(x)
        for task, (up, down) in enumerate(zip(pairs.ups, pairs.downs, strict=True)):
            out = x @ down.T @ up.T
            if task < last:
                out = out / (torch.linalg.matrix_norm(up) * torch.linalg.matrix_norm(down))
            total = total + self.alphas[task] * out
        return total


class Attention(nn.Module):
    """Self-attention around a frozen layer that gives q, k and v.

    softmax(q kᵀ / √d) v is written out, with every matrix of scores kept for the backward pass,
    or `fused`: torch's own, which a merged network runs. As in the released InfLoRA, all pairs of
    the `branches` on k and v, where there are any, are multiplied out in each forward pass.
    """

    def __init__(
        self,
        qkv: nn.Module,
        proj: nn.Linear,
        heads: int,
        branches: Sequence[Pairs] = (),
        fused: bool = False,
    ) -> None:
        super().__init__()
        self.qkv = qkv
        self.proj = proj
        self.heads = heads
        self.branches = nn.ModuleList(branches)
        self.fused = fused

    def forward(
        self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False
    ) -> Tensor:
        """Maps tokens (n, t, width) to the same shape; timm gives no mask."""
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        if self.branches:
            k, v = (
                part + functional.linear(x, _product(pairs))
                for part, pairs in zip((k, v), self.branches, strict=True)
            )
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (q, k, v))
        if self.fused:
            out = functional.scaled_dot_product_attention(q, k, v)
        else:
            out = ((q @ k.transpose(-2, -1)) * q.shape[-1] ** -0.5).softmax(dim=-1) @ v
        mapped: Tensor = self.proj(out.transpose(1, 2).flatten(2))
        return mapped


def released_inflora(qkv: nn.Linear, proj: nn.Linear, heads: int, tasks: int) -> Attention:
    """InfLoRA's attention of task number `tasks`, with branches on k and v."""
    pairs = [Pairs(proj.in_features, tasks, train_down=False) for _ in "kv"]
    return Attention(qkv, proj, heads, pairs)


class ReferenceModel(nn.Module):
    """timm's `network` with the recipe's layers in every block, as in task number `tasks`.

    The head has `classes` outputs for each task; the loss reads the last task's alone.
    """

    def __init__(
        self, method: str, tasks: int, classes: int, network: str = "vit_base_patch16_224"
    ) -> None:
        super().__init__()
        self.network = timm.create_model(network, pretrained=False, num_classes=0).eval()
        self.network.requires_grad_(False)
        self.alphas = nn.ParameterList(
            nn.Parameter(torch.tensor(ALPHA)) for _ in range(tasks if method == "sd_lora" else 0)
        )
        for block in self.network.blocks:
            own = block.attn
            if method == "inflora":
                block.attn = released_inflora(own.qkv, own.proj, own.num_heads, tasks)
            else:
                qkv = ReferenceSDLoRALinear(own.qkv, self.alphas)
                block.attn = Attention(qkv, own.proj, own.num_heads)
        self.heads = nn.ModuleList(
            nn.Linear(self.network.num_features, classes) for _ in range(tasks)
        )
        self.heads[:-1].requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        """Scores (n, classes of the last task)."""
        logits: Tensor = self.heads[-1](self.network(images))
        return logits


def train(model: ReferenceModel, batches: Iterable[tuple[Tensor, Tensor]], lr: float) -> None:
    """One step of Adam a batch; labels count from 0 within the task."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=lr)
    for images, labels in batches:
        optimizer.zero_grad()
        functional.cross_entropy(model(images), labels).backward()
        optimizer.step()


@torch.no_grad()
def design(model: ReferenceModel, batches: Iterable[Tensor]) -> list[Tensor]:
    """`down` (rank, width) of each block for a first task: moments on the host, a full SVD each."""
    totals: dict[nn.Module, Tensor] = {}

    def add(attention: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        totals[attention] = moment_on_host(totals.get(attention, torch.zeros(())), inputs[0])

    handles = [block.attn.register_forward_pre_hook(add) for block in model.network.blocks]
    for images in batches:
        model(images)
    for handle in handles:
        handle.remove()
    return [torch.linalg.svd(total)[0][:, :RANK].T / 3**0.5 for total in totals.values()]


def moment_on_host(total: Tensor, x: Tensor) -> Tensor:
    """`total` (width, width), kept on the host, plus Σ x xᵀ of tokens (n, t, width)."""
    return total + (x.transpose(1, 2) @ x).sum(0).cpu()


def _product(pairs: Any) -> Tensor:
    """Σ up_k down_k, (out, in)."""
    products = [up @ down for up, down in zip(pairs.ups, pairs.downs, strict=True)]
    return torch.stack(products).sum(0)


def _random(rows: int, columns: int) -> nn.Parameter:
    return nn.Parameter(DEVIATION * torch.randn(rows, columns))
