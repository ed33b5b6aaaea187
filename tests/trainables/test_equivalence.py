"""Open question 8: training `up` with `down` fixed is training the weight inside span(down)."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.trainables.draws import normal
from tests.trainables.trials import run, tiny
from trainables.low_rank.branch import LowRankLinear
from trainables.methods.inflora.method import projector
from trainables.trainer import SequentialTrainer

STEPS = 20
SCALE = 3**-0.5  # of the released code's rows


def trained(down: Tensor, optimizer: Callable[[list[Tensor]], torch.optim.Optimizer]) -> Tensor:
    """What a nonlinear loss adds to one layer's weight (6, 10) through `up`, in float64."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layer = LowRankLinear(nn.Linear(10, 6).double(), {"all": slice(0, 6)})
    (branch,) = layer.add_branch(len(down)).values()
    branch.double()
    with torch.no_grad():
        branch.down.copy_(down)
    steps = optimizer([branch.up])
    inputs, labels = normal(40, 10, seed=1), torch.arange(40) % 6
    for _ in range(STEPS):
        steps.zero_grad()
        functional.cross_entropy(layer(inputs).tanh(), labels).backward()
        steps.step()
    return branch.delta().detach()


def sgd(rate: float, decay: float) -> Callable[[list[Tensor]], torch.optim.Optimizer]:
    return lambda up: torch.optim.SGD(up, lr=rate, momentum=0.9, weight_decay=decay)


def adam(parameters: list[Tensor]) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=0.05)


ROWS = torch.linalg.qr(normal(10, 3, seed=2))[0].T


def test_steps_with_momentum_and_decay_are_those_of_the_projected_weight() -> None:
    by_up, by_weight = (trained(down, sgd(0.2, decay=0.01)) for down in (ROWS, projector(ROWS)))
    assert float(by_up.norm()) > 0.5
    torch.testing.assert_close(by_up, by_weight, atol=1e-13, rtol=0)


def test_rows_that_are_shorter_need_a_higher_rate() -> None:
    """Rows times c take the steps that a rate times c² would; the released code has c = 1/√3."""
    plain = trained(ROWS, sgd(0.1, decay=0.0))
    scaled = trained(SCALE * ROWS, sgd(0.1 / SCALE**2, decay=0.0))
    torch.testing.assert_close(plain, scaled, atol=1e-13, rtol=0)
    assert float((plain - trained(SCALE * ROWS, sgd(0.1, decay=0.0))).norm()) > 0.1


def test_adam_does_not_have_the_property() -> None:
    """Its step is scaled entry by entry, and a rotation of entries does not commute with that."""
    by_up, by_weight = trained(ROWS, adam), trained(projector(ROWS), adam)
    assert float((by_up - by_weight).norm()) > 0.1 * float(by_up.norm())


def test_what_adam_reaches_still_lies_inside_the_span() -> None:
    outside = torch.eye(10, dtype=torch.float64) - projector(ROWS)
    for down in (ROWS, projector(ROWS)):
        assert float((trained(down, adam) @ outside).norm()) < 1e-13


def test_the_projector_needs_no_orthonormal_rows() -> None:
    mixed = normal(3, 3, seed=3) @ ROWS
    torch.testing.assert_close(projector(mixed), ROWS.T @ ROWS, atol=1e-12, rtol=0)


@pytest.mark.parametrize("down_init", ["designed", "null_space_random"])
def test_whole_trials_agree_under_plain_gradient_descent(down_init: str) -> None:
    def change(trained: str, optimizer: str = "sgd", rate: float = 0.05) -> Tensor:
        changes = {"method.rank": 3, "method.down_init": down_init, "method.trained": trained}
        steps = {"optim.optimizer": optimizer, "optim.lr": rate}
        trainer = SequentialTrainer(tiny("inflora", {**changes, **steps}))
        layers = trainer._model.layers.values()
        start = torch.cat([layer.weight.detach().flatten() for layer in layers])
        run(trainer)
        return torch.cat([layer.weight.detach().flatten() for layer in layers]) - start

    by_up, by_weight = change("up"), change("weight")
    moved = float(by_up.norm())
    assert moved > 1e-2
    # In float32, over all steps of four tasks.
    assert float((by_up - by_weight).norm()) < 1e-4 * moved
    other, through_up = change("weight", "adam", 1e-3), change("up", "adam", 1e-3)
    assert float((through_up - other).norm()) > 1e-2 * float(through_up.norm())
