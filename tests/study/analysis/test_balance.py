"""Stability against plasticity: a point for each cell that has both."""

import pytest

from study.analysis import balance, looks
from study.analysis.scaling import interval


def test_cells_are_points_where_they_have_both() -> None:
    forgetting, plasticity = interval([0.1, 0.2, 0.3]), interval([0.7, 0.8, 0.9])
    nothing = interval([])
    found = balance.known(
        [("a", forgetting, plasticity), ("b", nothing, plasticity), ("c", forgetting, nothing)]
    )
    assert found == {"a": (forgetting, plasticity)}
    with looks.style():
        axes = balance.plasticity_against_forgetting(found, {"a": 0}).axes[0]
    line = axes.containers[0].lines[0]  # type: ignore[attr-defined]
    assert (list(line.get_xdata()), list(line.get_ydata())) == (
        [pytest.approx(20.0)],
        [pytest.approx(80.0)],
    )
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("forgetting, points", "plasticity, %")
