import pytest
import torch

from tests.trainables.draws import seeded
from trainables.config import TrialConfig
from trainables.heads import TaskHeads, current_task_loss


def test_loss_sees_only_the_current_tasks_classes() -> None:
    logits = torch.randn(6, 7, generator=seeded(), requires_grad=True)
    labels = torch.tensor([3, 4, 3, 4, 4, 3])
    loss = current_task_loss(logits, labels, range(3, 5))
    by_hand = -torch.log_softmax(logits[:, 3:5], 1)[torch.arange(6), labels - 3].mean()
    torch.testing.assert_close(loss, by_hand)
    loss.backward()
    assert logits.grad is not None
    assert (
        logits.grad.all(0).tolist()
        == logits.grad.any(0).tolist()
        == [c in (3, 4) for c in range(7)]
    )


def heads_of(normalise: bool = False) -> TaskHeads:
    return TaskHeads(5, torch.device("cpu"), seeded(), "small_normal", normalise)


def test_heads_are_read_side_by_side_and_only_the_newest_learns() -> None:
    heads = heads_of()
    first = heads.add(2)
    features = torch.randn(3, 5)
    before = heads.logits(features).detach()
    second = heads.add(4)
    assert heads.tasks == [range(2), range(2, 6)]
    assert heads.logits(features).shape == (3, 6)
    torch.testing.assert_close(heads.logits(features)[:, :2], before)
    assert not any(parameter.requires_grad for parameter in first)
    assert all(parameter.requires_grad for parameter in second)
    assert sum(parameter.numel() for parameter in heads.parameters()) == 6 * (5 + 1)


def test_heads_may_be_there_from_the_start() -> None:
    """The one of the task learns; all of them score."""
    heads = TaskHeads(5, torch.device("cpu"), seeded(), "linear", ahead=(2, 4))
    assert heads.tasks == [range(2), range(2, 6)]
    features = torch.randn(3, 5)
    before = heads.logits(features).detach()
    (weight, bias) = heads.open(1, 4)
    assert (weight.shape, bias.shape) == ((4, 5), (4,)) and heads.tasks == [range(2), range(2, 6)]
    assert torch.equal(heads.logits(features), before)
    assert heads.open(2, 3)[0].shape == (3, 5)
    assert heads.logits(features).shape == (3, 9)


def test_only_the_first_heads_are_overwritten_where_there_are_no_more() -> None:
    heads = heads_of()
    for classes in (2, 3):
        heads.add(classes)
    weight, bias = (tensor.detach().clone() for tensor in heads.joined())
    heads.overwrite(torch.ones(2, 5), torch.ones(2))
    after, after_bias = heads.joined()
    assert bool((after[:2] == 1).all()) and torch.equal(after[2:], weight[2:])
    assert bool((after_bias[:2] == 1).all()) and torch.equal(after_bias[2:], bias[2:])


def test_a_head_may_start_at_zero() -> None:
    heads = TaskHeads(5, torch.device("cpu"), seeded(), "zero")
    assert not any(bool(parameter.any()) for parameter in heads.add(3))


def test_normalised_heads_read_features_of_mean_0_and_deviation_1() -> None:
    plain, normalising = heads_of(), heads_of(normalise=True)
    for heads in (plain, normalising):
        heads.add(3)
    features = torch.randn(4, 5, generator=seeded(1))
    centred = features - features.mean(1, keepdim=True)
    scaled = centred / (centred.square().mean(1, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(normalising.logits(7 * features + 2), plain.logits(scaled))


@pytest.mark.parametrize(
    ("method", "preset", "weight", "bias"),
    [
        ("inflora", "released", 0.0208, 0.0208),
        ("inflora", "corrected", 0.0208, 0.0208),
        ("sd_lora", "released", 0.0361, 0.0),
        ("sd_lora", "corrected", 0.0361, 0.0),
        ("inflora", "paper", 0.02, 0.0),
        ("inflora", None, 0.02, 0.0),
        ("sd_lora", "paper", 0.02, 0.0),
        ("sd_lora", None, 0.02, 0.0),
    ],
)
def test_a_head_starts_as_the_preset_says(
    method: str, preset: str | None, weight: float, bias: float
) -> None:
    """At width 768, as the released code was measured; uniform draws stay within their bound."""
    config = TrialConfig.from_params({"method.name": method, "preset": preset})
    init = str(config.to_params()["method.head_init"])
    heads = TaskHeads(768, torch.device("cpu"), seeded(), init)
    w, b = (parameter.detach() for parameter in heads.add(400))
    assert float(w.std()) == pytest.approx(weight, abs=1e-4)
    assert float(b.std()) == pytest.approx(bias, rel=0.1)
    bounds = {"linear": 768**-0.5, "uniform_fan": (3 / 768) ** 0.5}
    assert float(w.abs().max()) <= bounds.get(init, 0.2)


def test_an_unknown_start_is_refused() -> None:
    heads = TaskHeads(5, torch.device("cpu"), seeded(), "zeros")
    with pytest.raises(ValueError, match="small_normal, linear or uniform_fan, but got 'zeros'"):
        heads.add(2)
