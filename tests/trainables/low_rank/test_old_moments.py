"""Old moments are kept as triangles in float32 and used as whole matrices."""

import pytest
import torch
from torch import Tensor

from tests.trainables.draws import normal
from trainables.low_rank.old_moments import OldMoments, packed, unpacked


def moment(seed: int, dim: int = 7) -> Tensor:
    x = normal(20, dim, seed=seed)
    return x.T @ x / 20


def test_a_triangle_in_float32_is_all_that_is_kept() -> None:
    kept = packed(moment(0))
    assert kept.dtype == torch.float32 and kept.shape == (28,)
    torch.testing.assert_close(unpacked(kept), moment(0), rtol=1e-7, atol=1e-8)
    assert torch.equal(unpacked(kept), unpacked(kept).T)


@pytest.mark.parametrize("dim", [1, 2, 160, 768, 1024])
def test_the_width_is_found_from_the_length(dim: int) -> None:
    kept = torch.arange(dim * (dim + 1) // 2, dtype=torch.float32)
    assert unpacked(kept).shape == (dim, dim)


def test_the_mean_weights_each_task_by_its_images() -> None:
    old = OldMoments()
    old.add({"a": moment(0)}, 10)
    assert old.interference({"a": torch.eye(7)})["a"] > 0
    old.add({"a": moment(1)}, 30)
    expected = (moment(0) * 10 + moment(1) * 30) / 40
    torch.testing.assert_close(old.mean("a"), expected, rtol=1e-6, atol=1e-7)


def test_what_is_kept_is_what_a_checkpoint_holds() -> None:
    """So that a resumed trial goes on from the same bits."""
    first, other = OldMoments(), OldMoments()
    first.add({"a": moment(0)}, 10)
    other.load_state_dict(first.state_dict())
    for old in (first, other):
        old.add({"a": moment(1)}, 5)
    assert torch.equal(first.mean("a"), other.mean("a"))


def test_nothing_is_kept_where_it_is_not_enabled() -> None:
    old = OldMoments(enabled=False)
    old.add({"a": moment(0)}, 10)
    assert old.state_dict()["mean"] == {}
