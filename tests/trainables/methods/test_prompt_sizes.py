"""How many numbers the methods with prompts hold in a ViT-B/16, and how they grow with tasks."""

from typing import Any
from unittest.mock import Mock

import pytest
import torch

from tests.trainables.draws import seeded
from trainables.backbones.info import PromptPlaces
from trainables.config import catalog
from trainables.method import MethodContext, create_method
from trainables.methods.hide_prompt.statistics import ClassCentroids


def begun(method: str, fields: dict[str, Any], tasks: int, width: int = 768) -> Any:
    """A method after it has begun all its tasks, of two classes each."""
    model: Any = Mock(width=width, places=PromptPlaces(12, width, class_position=True))
    context = MethodContext(model, tasks, torch.device("cpu"), seeded(), True, (2,) * tasks)
    own: Any = create_method(catalog.declaration(method).config(**fields), context)
    for index in range(tasks):
        classes = range(2 * index, 2 * index + 2)
        own.begin_task(model, Mock(index=index, classes=classes), Mock())
    return own


@pytest.mark.parametrize(("length", "expected"), [(20, 92_160), (5, 23_040)])
def test_a_task_s_prompt_of_dual_prompt(length: int, expected: int) -> None:
    own = begun("dual_prompt", {"e_length": length}, 4)
    assert [prompt.numel() for prompt in own.own] == [expected] * 4
    assert [key.numel() for key in own.keys] == [768] * 4
    assert own.general.numel() == 2 * 2 * 5 * 768


@pytest.mark.slow
@pytest.mark.parametrize(
    ("length", "tasks", "each", "all_of_them"),
    [(20, 10, 153_600, 1_536_000), (20, 50, 153_600, 7_680_000), (5, 10, 38_400, 384_000)],
)
def test_a_task_s_prompt_of_hide_prompt(
    length: int, tasks: int, each: int, all_of_them: int
) -> None:
    own = begun("hide_prompt", {"length": length}, tasks)
    assert [prompt.numel() for prompt in own.prompts] == [each] * tasks
    assert sum(prompt.numel() for prompt in own.prompts) == all_of_them
    # What tells the task does not grow, but for its heads.
    assert own.identity.bytes == 4 * 2_363_136


@pytest.mark.parametrize(("centroids", "expected"), [(10, 15_360), (1, 1_536)])
def test_what_hide_prompt_keeps_of_a_class(centroids: int, expected: int) -> None:
    """Of each of two stages: means and variances."""
    kept = ClassCentroids(centroids, seeded())
    features = torch.randn(80, 768, generator=seeded(1))
    kept.remember(features, torch.arange(80) % 2, range(2))
    assert kept.bytes == 2 * 4 * expected


# Tasks → components that no task has, of a hundred.
NEVER_USED = {5: 0, 10: 0, 20: 0, 30: 10, 40: 20, 50: 0, 51: 49, 60: 40, 99: 1, 100: 0}


@pytest.mark.parametrize(("tasks", "never_used"), NEVER_USED.items())
def test_components_that_no_task_has_are_not_held(tasks: int, never_used: int) -> None:
    model: Any = Mock(width=16, places=PromptPlaces(12, 16, class_position=True))
    context = MethodContext(model, tasks, torch.device("cpu"), seeded(), True, (2,) * tasks)
    own: Any = create_method(catalog.declaration("coda_prompt").config(), context)
    for rows in own.rows.values():
        assert rows.shape[:2] == (5, 100 - never_used)


@pytest.mark.parametrize("tasks", [2, 7])
def test_l2p_does_not_grow(tasks: int) -> None:
    own = begun("l2p", {}, tasks)
    assert own.prompts.numel() + own.keys.numel() == 46_080
