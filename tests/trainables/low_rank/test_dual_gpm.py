from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.trainables.draws import normal, seeded
from trainables.low_rank.dual_gpm import DualGPM, Energy, FirstTask

GOLDEN = Path(__file__).with_name("dualgpm_small.npz")
DIM = 24


def random_moment(seed: int, tokens: int = 200, dim: int = DIM, decay: float = 0.7) -> Tensor:
    generator = seeded(seed)
    scales = decay ** torch.arange(dim, dtype=torch.float64)
    mixing, _ = torch.linalg.qr(normal(dim, dim, seed=generator))
    inputs = normal(tokens, dim, seed=generator) * scales @ mixing
    moment: Tensor = inputs.T @ inputs / tokens
    return moment


def projector(memory: DualGPM) -> Tensor:
    """Onto M, whichever of M and M⊥ is stored."""
    held = memory.basis @ memory.basis.T
    return held if memory.kind == "remove" else torch.eye(memory.dim, dtype=held.dtype) - held


def test_reproduces_the_released_algorithm() -> None:
    golden = np.load(GOLDEN)
    memory = DualGPM(DIM, first_task="below")
    for index in range(len(golden["cov"])):
        moment = torch.from_numpy(golden["cov"][index])
        # The released code divides by √3; the signs of singular vectors are free.
        released = torch.from_numpy(golden["down"][index]) * 3**0.5
        designed = memory.design(moment, rank=4)
        assert designed.shape == released.shape
        signs = (designed * released).sum(1, keepdim=True).sign()
        torch.testing.assert_close(designed * signs, released, atol=1e-8, rtol=0)
        memory.absorb(moment, float(golden["thr"][index]))
        assert memory.kind == golden["kind"][index]
        assert memory.basis.shape[1] == golden["dim"][index]
        held = torch.from_numpy(golden["proj"][index])
        torch.testing.assert_close(memory.basis @ memory.basis.T, held, atol=1e-8, rtol=0)


@pytest.mark.parametrize("energy", ["sigma4", "sigma2"])
@pytest.mark.parametrize("first_task", ["reach", "below"])
def test_plain_and_dual_memories_hold_the_same_space_over_50_tasks(
    energy: Energy, first_task: FirstTask
) -> None:
    dual, plain = (DualGPM(DIM, energy, dual, first_task) for dual in (True, False))
    start = 0.9 if energy == "sigma4" else 0.6
    for seed in range(50):
        moment, threshold = random_moment(seed, decay=0.85), start + (1 - start) * seed / 50
        dual.absorb(moment, threshold)
        plain.absorb(moment, threshold)
        torch.testing.assert_close(projector(dual), projector(plain), atol=1e-9, rtol=0)
        assert dual.free_dim == plain.free_dim
    assert dual.kind == "retain"
    assert dual.bytes < plain.bytes


@pytest.mark.parametrize("energy", ["sigma4", "sigma2"])
def test_the_first_task_reaches_its_threshold_or_stays_below(energy: Energy) -> None:
    """The released code stops one direction too early, but takes one at least."""
    moment = random_moment(0, decay=0.9)
    reach, below = (DualGPM(DIM, energy, first_task=rule) for rule in ("reach", "below"))
    for memory in (reach, below):
        assert memory.absorb(moment, 0.8) == 0.8
    assert below.free_energy_share(moment) > 0.2 >= reach.free_energy_share(moment)
    assert below.free_dim == reach.free_dim + 1
    strong = DualGPM(8, energy, first_task="below")
    strong.absorb(torch.diag(torch.tensor([1.0, *[1e-3] * 7], dtype=torch.float64)), 0.5)
    assert strong.free_dim == 7


def flat_moment() -> Tensor:
    """Nearly equal energies in 8 dimensions: a share of (k + 0.5) / 8 is reached by k + 1."""
    return torch.diag(torch.linspace(1.0, 1.0 - 1e-3, 8, dtype=torch.float64))


def test_half_of_the_dimensions_or_more_at_the_first_task_are_kept_as_their_complement() -> None:
    """The released code keeps the wrong half at exactly d/2, and stops above."""
    for kept in (4, 5):
        memory = DualGPM(8, "sigma2")
        memory.absorb(flat_moment(), (kept - 0.5) / 8)
        assert (memory.kind, memory.free_dim) == ("retain", 8 - kept)
        strongest = (torch.arange(8) < kept).double()
        torch.testing.assert_close(projector(memory), torch.diag(strongest))
    right, wrong = (DualGPM(8, "sigma2", half_rule=rule) for rule in ("complement", "mislabel"))
    for memory in (right, wrong):
        memory.absorb(flat_moment(), 3.5 / 8)
    assert (wrong.kind, wrong.free_dim) == ("retain", 4)
    torch.testing.assert_close(projector(wrong), torch.eye(8).double() - projector(right))
    with pytest.raises(ArithmeticError, match="takes 5: the released algorithm stops here"):
        DualGPM(8, "sigma2", half_rule="mislabel").absorb(flat_moment(), 4.5 / 8)
    # Below half and without a dual memory the rule does nothing.
    for dual, threshold in ((True, 2.5 / 8), (False, 6.5 / 8)):
        memories = [DualGPM(8, "sigma2", dual, half_rule=r) for r in ("complement", "mislabel")]
        for memory in memories:
            memory.absorb(flat_moment(), threshold)
            assert memory.kind == "remove"
        torch.testing.assert_close(projector(memories[0]), projector(memories[1]))


@pytest.mark.parametrize("dual", [True, False])
def test_a_lowered_threshold_keeps_directions_free_and_is_reported(dual: bool) -> None:
    memory = DualGPM(DIM, dual=dual)
    lowered = 0
    for seed in range(40):
        moment = random_moment(seed)
        effective = memory.absorb(moment, 0.999, keep_free=4)
        assert memory.free_dim >= 4
        held = 1 - memory.free_energy_share(moment)
        if effective < 0.999:
            lowered += 1
            # Projecting on one side counts an energy of C that both sides together lack.
            assert effective == pytest.approx(held, abs=1e-9)
        else:
            assert held >= 0.999 - 1e-9
    assert lowered > 10
    assert memory.free_dim == 4


def test_angle_is_that_of_the_plane_closest_to_the_memory() -> None:
    axes = torch.eye(6, dtype=torch.float64)
    for dual in (True, False):
        memory = DualGPM(6, "sigma2", dual)
        assert memory.angle(axes[:2]) is None
        memory.absorb(torch.diag(torch.tensor([3.0, 2, 1, 0, 0, 0], dtype=torch.float64)), 0.99)
        assert memory.kind == ("retain" if dual else "remove")
        assert memory.angle(axes[3:5]) == pytest.approx(90)
        assert memory.angle(axes[2:5]) == pytest.approx(0, abs=1e-5)
        tilted = torch.stack([axes[5], 3**0.5 * axes[0] + axes[4]])
        assert memory.angle(tilted) == pytest.approx(30)
        assert memory.angle(axes[:0]) is None


def test_inputs_energy_keeps_far_more_than_the_moments() -> None:
    """reference.md: for λ_i ∝ 1/i in 768 dimensions ε = 0.98 keeps 28 against 664 directions."""
    moment = torch.diag(1.0 / torch.arange(1, 769, dtype=torch.float64))
    kept = {}
    for energy in ("sigma4", "sigma2"):
        memory = DualGPM(768, energy, dual=False, first_task="below")
        memory.absorb(moment, 0.98)
        kept[energy] = memory.basis.shape[1]
    assert kept == {"sigma4": 28, "sigma2": 664}


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="threshold must be in"):
        DualGPM(4).absorb(torch.eye(4), 1.5)
    with pytest.raises(ValueError, match="finite"):
        DualGPM(4).absorb(torch.full((4, 4), float("nan")), 0.5)


def graded_moment(dim: int, decades: float, seed: int) -> Tensor:
    """A second moment whose singular values fall evenly, over a number of decades."""
    mixing, _ = torch.linalg.qr(normal(dim, dim, seed=seed))
    values = torch.logspace(0, -decades, dim, dtype=torch.float64)
    moment: Tensor = (mixing * values) @ mixing.T
    return moment


@pytest.mark.parametrize("decades", [3, 6, 10, 15, 25])
def test_designs_are_singular_vectors_however_weak_they_are(decades: float) -> None:
    """Eigenvectors of squares stand in for them only where squaring loses nothing."""
    dim, rank = 30, 20
    memory = DualGPM(dim)
    for task in range(6):
        moment = graded_moment(dim, decades, task)
        left, values, _ = torch.linalg.svd(memory.project(moment), full_matrices=False)
        noise = 100 * dim * torch.finfo(torch.float64).eps * float(moment.norm())
        count = min(rank, int((values > noise).sum()), memory.free_dim)
        rows = memory.design(moment, rank)
        assert len(rows) == count
        # Of the strongest the directions themselves; of all that they are orthonormal and free.
        expected = torch.eye(count, dtype=rows.dtype)
        torch.testing.assert_close(rows @ rows.T, expected, atol=1e-10, rtol=0)
        cosines = (rows[:4] @ left[:, : min(4, count)]).abs().diagonal()
        torch.testing.assert_close(cosines, torch.ones_like(cosines), atol=1e-7, rtol=0)
        assert torch.linalg.matrix_norm(rows @ projector(memory)) < 1e-10
        memory.absorb(moment, 0.9)


def test_a_basis_stays_orthonormal_while_directions_are_given_up() -> None:
    memory = DualGPM(64)
    sizes = []
    for seed in range(100):
        memory.absorb(random_moment(seed, dim=64, decay=0.95), 0.7 + 0.2 * seed / 100)
        sizes.append(memory.basis.shape[1])
        expected = torch.eye(sizes[-1], dtype=torch.float64)
        torch.testing.assert_close(memory.basis.T @ memory.basis, expected, atol=1e-13, rtol=0)
    assert memory.kind == "retain"
    assert len({size for size in sizes if size}) > 10
