from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from tests.benchmarks import bench_gpu, reference
from tests.benchmarks.reference import Attention, ReferenceSDLoRALinear, released_inflora

from timm.models.vision_transformer import VisionTransformer  # isort: skip

pytestmark = pytest.mark.nightly

WIDTH, HEADS = 32, 4


def test_the_released_attention_equals_a_merged_one() -> None:
    torch.manual_seed(0)
    qkv, proj = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
    released = released_inflora(qkv, proj, HEADS, 5)
    x = torch.randn(2, 7, WIDTH)
    expected = released(x)
    with torch.no_grad():
        branches: Any = released.branches
        for first, pairs in zip((WIDTH, 2 * WIDTH), branches, strict=True):
            for up, down in zip(pairs.ups, pairs.downs, strict=True):
                qkv.weight[first : first + WIDTH] += up @ down
    torch.testing.assert_close(Attention(qkv, proj, HEADS, fused=True)(x), expected)


def test_the_released_directions_equal_a_composed_weight() -> None:
    torch.manual_seed(0)
    qkv = nn.Linear(WIDTH, 3 * WIDTH)
    alphas = nn.ParameterList(nn.Parameter(torch.tensor(0.5 + task)) for task in range(3))
    released = ReferenceSDLoRALinear(qkv, alphas)
    x = torch.randn(2, 7, WIDTH)
    expected = released(x)
    with torch.no_grad():
        for first, pairs in ((0, released.q_pairs), (2 * WIDTH, released.v_pairs)):
            for task, (up, down) in enumerate(zip(pairs.ups, pairs.downs, strict=True)):
                norm = 1.0 if task == 2 else float(up.norm() * down.norm())
                qkv.weight[first : first + WIDTH] += (0.5 + task) / norm * (up @ down)
    torch.testing.assert_close(qkv(x), expected)


@pytest.mark.parametrize(("method", "learn"), [("inflora", 2), ("sd_lora", 4)])
def test_a_step_of_the_recipe_moves_the_new_pairs_and_nothing_old(method: str, learn: int) -> None:
    torch.manual_seed(0)
    model = reference.ReferenceModel(method, 3, 2, "vit_tiny_patch16_224")
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    shared = 3 if method == "sd_lora" else 0
    # Of each of 12 blocks, the new head's weight and bias, and every magnitude.
    assert len(names) == 12 * learn + 2 + shared
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    images = torch.rand(2, 3, 224, 224)
    reference.train(model, [(images, torch.tensor([0, 1]))], 1e-2)
    after = dict(model.named_parameters())
    moved = [name for name in after if not torch.equal(after[name], before[name])]
    assert moved == names


def test_moments_are_sums_over_tokens() -> None:
    x = torch.randn(3, 5, WIDTH)
    tokens = x.flatten(0, 1)
    moment = reference.moment_on_host(torch.ones(WIDTH, WIDTH), x)
    torch.testing.assert_close(moment, 1 + tokens.T @ tokens, rtol=1e-4, atol=1e-4)


def test_operations_are_those_that_torch_counts() -> None:
    depth, width, size = 3, 24, 32
    network = VisionTransformer(
        img_size=size, patch_size=8, num_classes=0, embed_dim=width, depth=depth, num_heads=2
    )
    network.requires_grad_(False)
    for block in network.blocks:
        block.attn.fused_attn = False
    # As a branch in the first block would: all after it needs the gradient of its inputs.
    network.norm_pre.register_forward_hook(lambda *call: call[2].detach().requires_grad_(True))
    with FlopCounterMode(display=False) as counter:
        network(torch.rand(1, 3, size, size)).sum().backward()
    tokens = (size // 8) ** 2 + 1
    assert bench_gpu.operations(depth, width, tokens, 3 * 64) == counter.get_total_flops()
