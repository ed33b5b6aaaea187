import torch

from tests.trainables.draws import seeded
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
    return TaskHeads(5, torch.device("cpu"), seeded(), normalise)


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


def test_normalised_heads_read_features_of_mean_0_and_deviation_1() -> None:
    plain, normalising = heads_of(), heads_of(normalise=True)
    for heads in (plain, normalising):
        heads.add(3)
    features = torch.randn(4, 5, generator=seeded(1))
    centred = features - features.mean(1, keepdim=True)
    scaled = centred / (centred.square().mean(1, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(normalising.logits(7 * features + 2), plain.logits(scaled))
