import pytest

import search_spaces
from study.planning import space as ranges
from trainables.config import TrialConfig, catalog, known_keys


def test_every_method_has_a_space() -> None:
    assert set(catalog.methods()) <= set(search_spaces.names())


@pytest.mark.parametrize("name", search_spaces.names())
def test_every_key_is_known_and_every_end_is_valid(name: str) -> None:
    space = search_spaces.space(name)
    assert space
    assert set(space) <= set(known_keys(name))
    for key, distribution in space.items():
        for value in ranges.ends(distribution):
            TrialConfig.from_params({"method.name": name, key: value})
    # A copy, that nobody changes for others.
    space.clear()
    assert search_spaces.space(name)


def test_a_missing_space_is_named() -> None:
    with pytest.raises(
        ValueError, match=r"must have a search space, but 'other' has none: .*other\.py"
    ):
        search_spaces.space("other")
