import io

from study import pictures

ROWS = [[0.9], [0.8, 0.7]]


def test_accuracy_csv_leaves_unseen_tasks_empty() -> None:
    assert pictures.accuracy_csv(ROWS) == "after task,task 1,task 2\n1,0.9,\n2,0.8,0.7\n"


def test_free_dimensions_by_layer() -> None:
    metrics = {
        2: {"subspace/dim_free/layer_00": 3.0, "subspace/dim_free": 3.0},
        1: {"subspace/dim_free/layer_00": 5.0},
    }
    assert pictures.free_dimensions(metrics) == {"layer_00": {1: 5.0, 2: 3.0}}
    assert pictures.free_dimensions({1: {"test/accuracy": 1.0}}) == {}


def test_pictures_can_be_drawn() -> None:
    layers = {"layer_00": {1: 5.0, 2: 3.0}, "layer_01": {1: 4.0}}
    for figure in (
        pictures.accuracy_picture(ROWS, "matrix"),
        pictures.accuracy_picture([], "nothing"),
        pictures.accuracy_picture([[None]], "null"),
        pictures.free_dimensions_picture(layers, 2, "free"),
        pictures.free_dimensions_picture(layers, None, "free"),
    ):
        file = io.BytesIO()
        figure.savefig(file, dpi=20)
        assert file.getvalue().startswith(b"\x89PNG")
