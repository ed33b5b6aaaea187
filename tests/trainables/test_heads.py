import torch

from trainables.heads import TaskHeads, current_task_loss


def test_loss_sees_only_the_current_tasks_classes() -> None:
    logits = torch.randn(6, 7, generator=torch.Generator().manual_seed(0), requires_grad=True)
    labels = torch.tensor([3, 4, 3, 4, 4, 3])
    loss = current_task_loss(logits, labels, range(3, 5))
    by_hand = -torch.log_softmax(logits[:, 3:5], 1)[torch.arange(6), labels - 3].mean()
    torch.testing.assert_close(loss, by_hand)
    loss.backward()
    assert logits.grad is not None
    others = [0, 1, 2, 5, 6]
    assert not logits.grad[:, others].any()
    assert logits.grad[:, 3:5].all()


def test_heads_are_read_side_by_side_and_only_the_newest_learns() -> None:
    heads = TaskHeads(5, torch.device("cpu"), torch.Generator().manual_seed(0))
    first = heads.add(2)
    features = torch.randn(3, 5)
    before = heads.logits(features).detach()
    second = heads.add(4)
    assert heads.logits(features).shape == (3, 6)
    torch.testing.assert_close(heads.logits(features)[:, :2], before)
    assert not any(parameter.requires_grad for parameter in first)
    assert all(parameter.requires_grad for parameter in second)


def test_heads_know_the_classes_of_each_task() -> None:
    heads = TaskHeads(5, torch.device("cpu"), torch.Generator().manual_seed(0))
    for classes in (2, 1, 4):
        heads.add(classes)
    assert heads.tasks == [range(2), range(2, 3), range(3, 7)]
    assert sum(one.numel() for one in heads.parameters()) == 7 * (5 + 1)


def test_normalised_heads_read_features_of_mean_0_and_deviation_1() -> None:
    plain, normalising = (
        TaskHeads(5, torch.device("cpu"), torch.Generator().manual_seed(0), normalise)
        for normalise in (False, True)
    )
    for heads in (plain, normalising):
        heads.add(3)
    features = torch.randn(4, 5, generator=torch.Generator().manual_seed(1))
    centred = features - features.mean(1, keepdim=True)
    scaled = centred / (centred.square().mean(1, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(normalising.logits(7 * features + 2), plain.logits(scaled))
