"""The wall: what the table of rooms says is so, but for the exceptions that are listed in it."""

from tests.boundaries.rooms import table, violations


def test_the_house_is_as_its_table_says() -> None:
    listed = set(table().get("exceptions", ()))
    found = violations()
    assert found - listed == set(), "new violations"
    assert listed - found == set(), "exceptions that are mended: take them off the list"
