"""A whole training step of the released recipe on timm's ViT-B, and its pass for second moments."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.benchmarks.reference_layers import (
    ALPHA,
    RANK,
    ReferenceAttention,
    ReferenceInfLoRAAttention,
    ReferenceSDLoRALinear,
    moment_on_host,
)
from trainables import timm_compat  # noqa: F401  (must precede timm)

import timm  # isort: skip


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
                block.attn = ReferenceInfLoRAAttention(own.qkv, own.proj, own.num_heads, tasks)
            else:
                qkv = ReferenceSDLoRALinear(own.qkv, self.alphas)
                block.attn = ReferenceAttention(qkv, own.proj, own.num_heads)
        self.heads = nn.ModuleList(
            nn.Linear(self.network.num_features, classes) for _ in range(tasks)
        )
        self.heads[:-1].requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        """Scores (n, classes of the last task)."""
        found: Tensor = self.heads[-1](self.network(images))
        return found


def train(model: ReferenceModel, batches: Iterable[tuple[Tensor, Tensor]], lr: float) -> None:
    """One step of Adam a batch; labels count from 0 within the task."""
    trained = [one for one in model.parameters() if one.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=lr)
    for images, labels in batches:
        optimizer.zero_grad()
        functional.cross_entropy(model(images), labels).backward()
        optimizer.step()


@torch.no_grad()
def design(model: ReferenceModel, batches: Iterable[Tensor]) -> list[Tensor]:
    """`down` (rank, width) of each block for a first task: moments on the host, a full SVD each."""
    attentions = [block.attn for block in model.network.blocks]
    width = model.network.num_features
    totals = [torch.zeros(width, width) for _ in attentions]

    def watch(index: int) -> torch.utils.hooks.RemovableHandle:
        def add(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            totals[index] = moment_on_host(totals[index], inputs[0])

        handle: torch.utils.hooks.RemovableHandle = attentions[index].register_forward_pre_hook(add)
        return handle

    handles = [watch(index) for index in range(len(attentions))]
    try:
        for images in batches:
            model(images)
    finally:
        for handle in handles:
            handle.remove()
    return [torch.linalg.svd(total)[0][:, :RANK].T / 3**0.5 for total in totals]
