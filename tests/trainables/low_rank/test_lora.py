import pytest
import torch
from torch import nn

from tests.trainables.draws import seeded
from trainables.low_rank.branch import LowRankLinear
from trainables.low_rank.lora import ContinuingLoRA, open_lora
from trainables.low_rank.old_moments import interference
from trainables.low_rank.update_watch import UpdateWatch


def layers() -> dict[str, LowRankLinear]:
    """Two layers of different widths, with the same weights in every call."""
    torch.manual_seed(0)
    slices = {"q": slice(0, 4), "v": slice(6, 10)}
    return {
        "layer_00": LowRankLinear(nn.Linear(8, 10), slices),
        "layer_01": LowRankLinear(nn.Linear(200, 12), slices),
    }


def test_a_new_branch_changes_nothing_and_its_down_is_uniform_up_to_one_over_root_inputs() -> None:
    layer = layers()["layer_01"]
    x = torch.randn(3, 200)
    before = layer(x)
    branches = open_lora(layer, 6, seeded(1))
    assert set(branches) == {"q", "v"}
    torch.testing.assert_close(layer(x), before)
    down = torch.cat([branch.down.detach().flatten() for branch in branches.values()])
    bound = 200**-0.5
    assert 0.98 * bound < float(down.abs().max()) <= bound
    assert float(down.std()) == pytest.approx(bound / 3**0.5, rel=0.05)


@pytest.mark.parametrize("opened", [False, True])
def test_a_state_is_taken_over_without_drawing_a_random_number(opened: bool) -> None:
    saved = ContinuingLoRA(layers(), 2, seeded(1))
    if opened:
        with torch.no_grad():
            for factor in saved.parameters():
                factor.normal_()
    generator = seeded(1)
    restored = ContinuingLoRA(layers(), 2, generator)
    restored.load_state_dict(saved.state_dict())
    assert torch.equal(generator.get_state(), seeded(1).get_state())
    for name, delta in saved.deltas().items():
        assert torch.equal(restored.deltas()[name], delta)
        assert bool(delta.any()) == opened
    assert bool(restored.state_dict()) == opened


def test_a_watch_measures_the_change_and_a_disabled_one_never_looks() -> None:
    layer = LowRankLinear(nn.Linear(8, 10), {"all": slice(0, 10)})
    watched = {"layer_00": layer}
    first, second, images = torch.randn(10, 8), torch.randn(10, 8), torch.randn(30, 8)
    watch = UpdateWatch(watched, enabled=True)
    watch.start({})
    assert watch.finish({"layer_00": first}, layer, [images], 30) == {}
    watch.start({"layer_00": first})
    disturbed = watch.finish({"layer_00": second}, layer, [images], 30)
    expected = interference(second - first, (images.T @ images / 30).double())
    assert disturbed == {"layer_00": pytest.approx(expected, rel=1e-5)}
    off = UpdateWatch(watched, enabled=False)
    off.start({"layer_00": first})
    assert off.finish({"layer_00": second}, layer, iter(()), 0) == {}
    assert off.state_dict() == UpdateWatch(watched, enabled=False).state_dict()
