"""Starts, votes, pulls and the released reshape: numbers by hand."""

import pytest
import torch

from tests.trainables.draws import seeded
from trainables.prompts.applied import cosine, nearest
from trainables.prompts.learning import (
    STARTS,
    chosen_of,
    crossed_push,
    gathered,
    leaked,
    pull,
    similarities,
    start,
    voted,
)

QUERIES = torch.tensor([[1.0, 2.0, 2.0], [0.0, 1.0, 0.0]])
SIMILARITY = cosine(QUERIES, torch.cat([torch.eye(3), torch.ones(1, 3)]))
IDS = nearest(SIMILARITY, 2)


def test_the_pull_is_a_mean_over_images_of_their_own_keys() -> None:
    sums = SIMILARITY.gather(1, IDS).sum(1).tolist()
    assert sums == pytest.approx([1.628917, 1.577350], abs=1e-6)
    assert float(pull(SIMILARITY, IDS)) == pytest.approx(1.603134, abs=1e-6)
    assert -0.1 * float(pull(SIMILARITY, IDS)) == pytest.approx(-0.160313, abs=1e-6)


def test_the_crossed_push_counts_every_image_against_every_images_keys() -> None:
    assert float(crossed_push(SIMILARITY, IDS)) == pytest.approx(1.587465, abs=1e-5)
    intended = (1 - SIMILARITY.gather(1, IDS)).sum()
    assert float(intended) == pytest.approx(0.793733, abs=1e-6)


def test_a_vote_gives_all_images_the_ids_that_most_chose() -> None:
    ids = torch.tensor([[3, 1], [1, 2], [4, 1], [2, 4]])
    # 1 three times; 2 and 4 twice, of which the smaller.
    assert voted(ids, 6).tolist() == [[1, 2]] * 4
    for order in (torch.tensor([2, 0, 3, 1]), torch.tensor([3, 2, 1, 0])):
        assert torch.equal(voted(ids[order], 6), voted(ids, 6))


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (4, ["K0K1", "K2K3", "V0V1", "V2V3"]),
        (3, ["K0K1", "K2V0", "V1V2"]),
        (1, ["K0V0"]),
    ],
)
def test_the_released_reshape_hands_out_what_is_of_other_images(
    count: int, expected: list[str]
) -> None:
    """Keys are numbered from 0, values from 100."""
    numbers = torch.stack([torch.arange(count), 100 + torch.arange(count)], 1)
    # Two blocks, whose prompts must not mix, of two rows of width 3.
    rows = (numbers[:, None] + torch.tensor([0, 1000])[:, None]).view(count, 2, 2, 1, 1)
    found = leaked(rows.expand(count, 2, 2, 2, 3))
    assert found.shape == (count, 2, 2, 2, 3)
    for block in range(2):
        names = [
            "".join(f"{'KV'[value // 100]}{value % 100}" for value in pair)
            for pair in (found[:, block, :, 0, 0] - 1000 * block).tolist()
        ]
        assert names == expected
        assert torch.equal(found[:, block, :, 1, 2], found[:, block, :, 0, 0])


@pytest.mark.parametrize("count", [2, 6, 8])
def test_half_of_an_even_batch_gets_keys_as_both_and_the_other_half_values(count: int) -> None:
    keys = torch.arange(count)
    found = leaked(torch.stack([keys, 100 + keys], 1).view(count, 1, 2, 1, 1))
    for image, pair in enumerate(found[:, 0, :, 0, 0].tolist()):
        first = 2 * image if 2 * image < count else 100 + 2 * image - count
        assert pair == [first, first + 1]


def test_a_vote_counts_images_and_not_how_near_they_are() -> None:
    """Three images that hardly prefer key 0 outvote two that are at key 1."""
    queries = torch.tensor([[1.0, 0.99], [1.0, 0.99], [1.0, 0.99], [0.0, 1.0], [0.0, 1.0]])
    similarity = cosine(queries, torch.eye(2))
    ids = voted(nearest(similarity, 1), 2)
    assert ids.tolist() == [[0]] * 5
    # What is pulled is what was voted for: (3 · 0.710651 + 0) / 5.
    assert float(pull(similarity, ids)) == pytest.approx(0.426391, abs=1e-6)


def test_gathering_is_indexing() -> None:
    prompts = [torch.full((2, 3), float(number)) for number in range(5)]
    ids = torch.tensor([4, 0, 4, 2])
    assert torch.equal(gathered(prompts, ids), torch.stack(prompts)[ids])


def test_flags_say_which_prompts_an_image_got() -> None:
    flags = chosen_of(torch.tensor([[2, 0], [1, 2]]), 4)
    assert flags.int().tolist() == [[1, 0, 1, 0], [0, 1, 1, 0]]


@pytest.mark.parametrize("init", STARTS)
def test_starts_are_uniform_in_their_range(init: str) -> None:
    low, high = STARTS[init]
    rows = start((100, 50), init, seeded(0))
    assert low <= float(rows.min()) < float(rows.max()) <= high
    assert float(rows.mean()) == pytest.approx((low + high) / 2, abs=0.02 * (high - low))
    assert float(rows.std()) == pytest.approx((high - low) / 12**0.5, rel=0.02)


def test_similarities_are_of_different_rows() -> None:
    rows = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0]])
    assert similarities(rows) == pytest.approx((2 * 0.5**0.5 / 3, 0.5**0.5), abs=1e-6)
    assert similarities(rows[:1]) == (0.0, 0.0)
