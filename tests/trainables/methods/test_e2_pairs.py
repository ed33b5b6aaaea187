"""What E2-LoRA keeps of old pairs: golden numbers, by numpy, and where ranks cannot rise."""

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.trainables.draws import normal, seeded
from trainables.methods.e2_lora.pairs import OutputPairs, kept_ranks, ranks_at

FOUR = torch.tensor([4.0, 3.0, 2.0, 1.0], dtype=torch.float64)


def after(tasks: int, out_dim: int, in_dim: int, seed: int = 0) -> OutputPairs:
    """The pairs of `tasks` tasks, each trained at random."""
    generator = seeded(seed)
    pairs = OutputPairs(out_dim)
    for task in range(tasks):
        up = pairs.make_room().columns if task else normal(out_dim, out_dim, seed=generator)
        rows = normal(up.shape[1], in_dim, seed=generator)
        pairs.add(up, rows, covariance(in_dim, seed=task))
    return pairs


def covariance(width: int, seed: int) -> Tensor:
    rows = normal(3 * width, width, seed=seeded(seed)) * torch.linspace(2, 0.1, width)
    return rows.T @ rows / len(rows)


@pytest.mark.parametrize(("threshold", "kept"), [(0.75, 3), (0.69999, 2), (0.7, 3), (0.39, 1)])
def test_golden_ranks_at_a_threshold(threshold: float, kept: int) -> None:
    assert ranks_at(threshold, [FOUR.cumsum(0)], [4]) == [kept]


def test_golden_budget_of_two() -> None:
    assert kept_ranks([FOUR], [4], 2) == ([2], 0.69999)
    pairs = OutputPairs(4)
    pairs.add(torch.eye(4).double(), torch.eye(4).double(), torch.diag(FOUR))
    room = pairs.make_room()
    assert (room.kept, room.columns.shape, room.threshold) == (2, (4, 2), 0.69999)
    assert room.least_share == pytest.approx(0.7)
    # The two strongest outputs stay, the two weakest are free.
    assert room.columns.abs().sum(1).tolist() == pytest.approx([0, 0, 1, 1])


@pytest.mark.slow
def test_the_threshold_is_that_of_going_down_by_steps() -> None:
    rng = np.random.default_rng(0)
    for tasks in (2, 3, 7):
        spectra = [np.sort(rng.exponential(size=20) ** 3)[::-1] for _ in range(tasks)]
        held = [int(rng.integers(3, 21)) for _ in range(tasks)]
        budget = int(rng.integers(tasks, 20))
        sums = [np.cumsum(own) for own in spectra]
        for step in range(99_999, -1, -1):
            theta = step / 100_000
            ranks = [
                min(had, 1 + int((own <= theta * own[-1]).sum()))
                for own, had in zip(sums, held, strict=True)
            ]
            if sum(ranks) <= budget:
                break
        found = kept_ranks([torch.from_numpy(own.copy()) for own in spectra], held, budget)
        assert found == (ranks, theta)


def test_a_pair_becomes_principal_directions_of_its_outputs_and_the_function_stays() -> None:
    generator = seeded()
    up, down = normal(7, 7, seed=generator), normal(7, 4, seed=generator)
    tokens = normal(50, 4, seed=generator) + 3
    seen = np.cov(tokens.numpy().T, bias=True)
    pairs = OutputPairs(7)
    pairs.add(up, down, torch.from_numpy(seen))
    (pair,) = pairs.pairs
    torch.testing.assert_close(pairs.delta(), up @ down)
    torch.testing.assert_close(pair.up.T @ pair.up, torch.eye(7).double())
    outputs = (tokens @ down.T @ up.T).numpy()
    along = np.cov(outputs @ pair.up.numpy(), rowvar=False, bias=True)
    np.testing.assert_allclose(along, np.diag(pair.spectrum.numpy()), atol=1e-9)
    # Seven outputs of four inputs.
    assert int((pair.spectrum > 1e-9).sum()) == 4
    assert pair.spectrum.tolist() == sorted(pair.spectrum.tolist(), reverse=True)


def test_all_columns_are_one_basis_whatever_was_given_up() -> None:
    pairs = after(6, 12, 5)
    room = pairs.make_room()
    kept = torch.cat([pair.up for pair in pairs.pairs], dim=1)
    basis = torch.cat([kept, room.columns], dim=1)
    assert basis.shape == (12, 12) and room.kept == kept.shape[1] <= 6 * 12 // 7
    torch.testing.assert_close(basis.T @ basis, torch.eye(12).double())
    assert all(pair.up.shape[1] >= 1 for pair in pairs.pairs)


def test_giving_up_projects_what_all_pairs_add_off_the_room() -> None:
    pairs = after(4, 12, 5)
    before = pairs.delta()
    columns = pairs.make_room().columns
    torch.testing.assert_close(pairs.delta(), before - columns @ columns.T @ before)


def test_a_rank_that_would_rise_stays_at_what_the_pair_still_has() -> None:
    """Half of the outputs are the first pair's at the second task, two thirds at the third."""
    pairs = OutputPairs(6)
    flat = torch.eye(6).double()
    pairs.add(flat, flat, flat)
    assert pairs.make_room().kept == 3
    spectra = [pairs.pairs[0].spectrum, torch.tensor([9.0, 0.1, 0.1]).double()]
    # Without the limit: 4 of the flat spectrum's 6, and 1 of the other: more than were left.
    assert kept_ranks(spectra, [6, 3], 4)[0] == [3, 1]
    assert ranks_at(0.6, [spectrum.cumsum(0) for spectrum in spectra], [6, 3]) == [4, 1]
    assert ranks_at(0.6, [spectrum.cumsum(0) for spectrum in spectra], [3, 3]) == [3, 1]
    # The room goes to the other pair, as far as the budget reaches.
    assert kept_ranks(spectra, [3, 3], 5)[0] == [3, 2]


def test_more_tasks_than_outputs_leave_room_and_empty_the_weakest_pairs() -> None:
    pairs = OutputPairs(3)
    for task in range(8):
        up = torch.eye(3).double()
        if task:
            room = pairs.make_room()
            up = room.columns
            assert up.shape[1] >= 1 and room.kept + up.shape[1] == 3
            assert room.emptied == max(0, task - 2)
        rows = torch.eye(3).double()[: up.shape[1]] * (8 - task)
        pairs.add(up, rows, torch.eye(3).double())
    # Strength fell from task to task: the first ones are kept.
    assert [pair.up.shape[1] > 0 for pair in pairs.pairs[:2]] == [True, True]
    assert torch.isfinite(pairs.delta()).all()


def test_a_pair_that_never_moved_keeps_one_direction() -> None:
    pairs = OutputPairs(8)
    pairs.add(torch.eye(8).double(), torch.zeros(8, 3).double(), torch.eye(3).double())
    room = pairs.make_room()
    assert (room.kept, room.columns.shape[1], room.least_share) == (1, 7, 1.0)


def test_state_holds_no_more_than_what_is_kept() -> None:
    pairs = after(3, 12, 5)
    assert pairs.branch_bytes == 8 * (12 * 12 + 12 * 5)
    pairs.make_room()
    state = pairs.state_dict()
    assert all(own["up"].untyped_storage().nbytes() == own["up"].nbytes for own in state)
    assert all(own["down"].untyped_storage().nbytes() == own["down"].nbytes for own in state)
    fresh = OutputPairs(12)
    fresh.load_state_dict(state, torch.device("cpu"))
    assert torch.equal(fresh.delta(), pairs.delta())
