"""CODA-Prompt's rows: numbers by hand, and what is orthogonal to what."""

import pytest
import torch

from tests.trainables.draws import normal, seeded
from trainables.prompts.components import new_rows, orthogonality_penalty, without_earlier

OLD = torch.tensor([[3.0, 4.0, 0.0], [1.0, 0.0, 0.0]], dtype=torch.float64)
DRAWN = torch.tensor([1.0, 2.0, 2.0], dtype=torch.float64)


def test_the_penalty_by_hand() -> None:
    assert float(orthogonality_penalty(torch.tensor([[1.0, 0.0], [1.0, 1.0]]))) == 0.75
    assert float(orthogonality_penalty(torch.eye(3))) == 0


@pytest.mark.parametrize("count", [2, 5, 20])
@pytest.mark.parametrize("cosine", [0.0, 0.3, -0.04])
def test_the_penalty_of_unit_rows_of_one_cosine(count: int, cosine: float) -> None:
    """m (m − 1) entries off the diagonal of m² are the cosine: (m − 1) / m · cosine²."""
    eye = torch.eye(count, dtype=torch.float64)
    rows = torch.linalg.cholesky(eye + cosine * (1 - eye))
    expected = (count - 1) / count * cosine**2
    assert float(orthogonality_penalty(rows)) == pytest.approx(expected, abs=1e-12)


def test_both_steps_by_hand_in_four_dimensions() -> None:
    """(1, 2, 3, 4) less 1.5 and 2.5 of two rows, or less what lies in the plane of both."""
    old = torch.tensor([[1.0, 1, 0, 0], [0, 1, 1, 0]], dtype=torch.float64)
    drawn = torch.tensor([1.0, 2, 3, 4], dtype=torch.float64)
    assert without_earlier(drawn, old).tolist() == [-0.5, -2.0, 0.5, 4.0]
    _, _, basis = torch.linalg.svd(old, full_matrices=False)
    exact = without_earlier(drawn, basis)
    assert exact.tolist() == pytest.approx([2 / 3, -2 / 3, 2 / 3, 4], abs=1e-12)
    assert (old @ exact).tolist() == pytest.approx([0, 0], abs=1e-12)


def test_the_released_step_is_not_orthogonal_to_rows_that_are_not_to_each_other() -> None:
    rest = without_earlier(DRAWN, OLD)
    rest = rest / rest.norm()
    assert rest.tolist() == pytest.approx([-0.548100, 0.099655, 0.830455], abs=1e-6)
    assert (OLD @ rest).tolist() == pytest.approx([-1.245682, -0.548100], abs=1e-6)


def test_the_exact_start_is_orthogonal_to_all_that_old_rows_span() -> None:
    """Of three dimensions two are taken: (0, 0, 1) is left."""
    (row,) = new_rows(OLD, 1, "exact", seeded(0))
    assert row.abs().tolist() == pytest.approx([0, 0, 1], abs=1e-12)


@pytest.mark.parametrize("form", ["exact", "released"])
def test_the_rows_of_the_first_task_are_orthonormal(form: str) -> None:
    rows = new_rows(torch.zeros(0, 40), 10, form, seeded(0))
    assert rows.shape == (10, 40) and rows.dtype == torch.float32
    torch.testing.assert_close(rows @ rows.T, torch.eye(10), atol=1e-6, rtol=0)


@pytest.mark.parametrize(("form", "orthogonal"), [("exact", True), ("released", False)])
def test_later_rows_have_unit_length(form: str, orthogonal: bool) -> None:
    old = normal(6, 40, seed=1)
    rows = new_rows(old, 4, form, seeded(0))
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(4, dtype=old.dtype))
    among = (rows @ rows.T - torch.eye(4, dtype=old.dtype)).abs().max()
    assert (float(among) < 1e-9) == orthogonal
    assert (float((old @ rows.T).abs().max()) < 1e-9) == orthogonal


def test_where_the_space_is_full_rows_are_drawn_all_the_same() -> None:
    rows = new_rows(torch.zeros(0, 3), 8, "exact", seeded(0))
    assert bool(torch.isfinite(rows).all())
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(8))
    torch.testing.assert_close(rows[:3] @ rows[:3].T, torch.eye(3), atol=1e-6, rtol=0)
