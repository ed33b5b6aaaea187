import pytest

from study.analysis.summary import compare_methods, data_names, summarise
from study.ledger.labels import cell_label, shown_keys, varying_keys
from tests.study.histories import study_of
from tests.study.report.ledgers import made_up_study

A, B = "a" * 64, "b" * 64


def test_two_reference_points_are_not_compared_unless_all_are() -> None:
    """A further comparison would only weaken what is asked."""
    methods = ("inflora", "sd_lora", "sequential", "joint", "linear_heads")
    cells = summarise(study_of(made_up_study(methods, (4,), layers=1)))
    assert {cell.method for cell in cells if cell.reference} == {*methods[2:]}
    compared = {(pair.first, pair.second) for pair in compare_methods(cells)}
    assert ("inflora", "joint") in compared and ("sd_lora", "linear_heads") in compared
    assert ("sequential", "joint") not in compared
    alone = summarise(study_of(made_up_study(methods[2:4], (4,), layers=1)))
    assert len(compare_methods(alone)) == 1


def test_settings_that_differ_in_two_keys_are_not_compared() -> None:
    keys = [
        {"method.rank": rank, "method.energy": energy}
        for rank in (4, 8)
        for energy in ("sigma2", "sigma4")
    ]
    study = study_of(made_up_study(("inflora",), (4,), keys=keys, layers=1))
    pairs = compare_methods(summarise(study))
    assert {(pair.first, pair.second) for pair in pairs} == {
        ("rank 4, energy sigma2", "rank 4, energy sigma4"),
        ("rank 4, energy sigma2", "rank 8, energy sigma2"),
        ("rank 4, energy sigma4", "rank 8, energy sigma4"),
        ("rank 8, energy sigma2", "rank 8, energy sigma4"),
    }


def test_cells_of_other_keys_are_other_groups() -> None:
    keys = [{"method.rank": rank} for rank in (4, 8)]
    cells = summarise(study_of(made_up_study(tasks=(4,), keys=keys, layers=1)))
    assert {cell.group for cell in cells} == {"4 tasks, rank 4", "4 tasks, rank 8"}
    assert len(compare_methods(cells)) == 6


def test_chance_of_a_cell_with_all_classes_is_its_data_sets() -> None:
    records = made_up_study(methods=("sequential",), tasks=(4,), seeds=(0,))
    records[0]["chance"] = None
    for record in records:
        if record["kind"] == "trial":
            record["params"] |= {"data.name": "gaussian", "data.classes": None}
    (cell,) = summarise(study_of(records))
    assert cell.chance == 1 / 64


def test_labels_come_from_any_key() -> None:
    key = {"data.tasks": 50, "method.name": "inflora", "method.rank": 8, "data.name": "icons"}
    assert cell_label(key, {"method.rank", "data.name"}) == "inflora, 50 tasks, rank 8, icons"
    assert cell_label(key, set()) == "inflora, 50 tasks"
    assert cell_label({"optim.lr": 0.001, "head.lr": 1}, {"optim.lr", "head.lr"}) == (
        "optim.lr 0.001, head.lr 1"
    )
    assert cell_label({"data.tasks": 1}, set()) == "1 task"


def test_what_goes_with_a_data_set_is_not_in_the_labels() -> None:
    home = {"data.name": "icons", "data.classes": 9, "data.tasks": 3}
    away = {"data.name": "digits", "data.classes": 10, "data.tasks": 5}
    tuned = {"search.tuned_on": "data.name=icons,data.classes=9,data.tasks=3"}
    keys = shown_keys([({"method.rank": 4}, home), ({"method.rank": 4, **away, **tuned}, {})])
    assert [cell_label(key, varying_keys(keys)) for key in keys] == [
        "3 tasks, icons",
        "5 tasks, digits, tuned on icons",
    ]
    # Where classes vary within a data set they are needed.
    more = shown_keys([({**home, "data.classes": 12, "data.tasks": 4}, {}), (home, {}), (away, {})])
    assert [cell_label(key, varying_keys(more)) for key in more] == [
        "4 tasks, icons, classes 12",
        "3 tasks, icons, classes 9",
        "5 tasks, digits, classes 10",
    ]


@pytest.mark.parametrize(
    ("keys", "values", "names"),
    [
        ("name tasks", [("icons", 5)], ["icons"]),
        ("name classes split_sha256", [("icons", 40, A), ("digits", 9, B)], ["icons", "digits"]),
        (
            "name tasks",
            [("icons", 5), ("icons", 10), ("digits", 5)],
            ["icons, 5 tasks", "icons, 10 tasks", "digits, 5 tasks"],
        ),
        ("name classes", [("icons", 20), ("icons", 40)], ["classes 20", "classes 40"]),
        (
            "name split_sha256",
            [("icons", A), ("icons", B)],
            ["split_sha256 aaaaaaaa", "split_sha256 bbbbbbbb"],
        ),
    ],
)
def test_data_are_told_apart_by_as_little_as_will_do(
    keys: str, values: list[tuple[object, ...]], names: list[str]
) -> None:
    words = [f"data.{key}" for key in keys.split()]
    assert data_names([dict(zip(words, own, strict=True)) for own in values]) == names
