import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from study.sections import Pruner, Resources, Search
from study.spec import StudySpec

TEXT = """
name: small
question: Does it run?
grid:
  method.name: [inflora, sd_lora]
  data.tasks: [2, 4]
fixed:
  optim.lr: 1e-3
"""
Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def to_file(text: str) -> Path:
        path = tmp_path / "study.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return to_file


def test_defaults_and_values(write: Write) -> None:
    spec = StudySpec.load(write(TEXT + "seeds: [3, 4]\npruner: {first_rung: 5}\n"))
    assert spec.grid == {"method.name": ("inflora", "sd_lora"), "data.tasks": (2, 4)}
    assert spec.fixed == {"optim.lr": 1e-3}
    assert (spec.metric, spec.sign, spec.seeds) == ("val/accuracy", 1, (3, 4))
    assert spec.search == Search("all", "whole_stream")
    assert spec.pruner == Pruner("asha", 3, 5)
    assert spec.resources == Resources(1, 0)
    on_gpu = "resources: {gpu: 0.5}\nobjective: memory/peak_device_bytes\n"
    assert StudySpec.load(write(TEXT + on_gpu)).sign == -1


def test_plain_data_gives_the_same_spec_back(write: Write) -> None:
    spec = StudySpec.load(write(TEXT))
    plain = json.loads(json.dumps(spec.to_plain()))
    assert StudySpec.from_plain(plain, spec.source) == spec


@pytest.mark.parametrize(
    ("metric", "mode"),
    [
        ("val/accuracy", "max"),
        ("val/backward_transfer", "max"),
        ("val/forgetting", "min"),
        ("memory/branch_bytes", "min"),
        ("time/train_seconds", "min"),
        ("time/images_per_second", "max"),
    ],
)
def test_objective_may_be_a_name_alone(write: Write, metric: str, mode: str) -> None:
    assert StudySpec.load(write(TEXT + f"objective: {metric}")).objective == {metric: mode}


def test_several_objectives_have_a_mode_each(write: Write) -> None:
    text = "pruner: {kind: none}\nobjective: [val/accuracy, memory/subspace_bytes]\n"
    spec = StudySpec.load(write(TEXT + text))
    assert spec.objective == {"val/accuracy": "max", "memory/subspace_bytes": "min"}
    assert (spec.metric, spec.signs) == ("val/accuracy", (1, -1))


def test_transfer_needs_a_seed_to_search_and_one_to_confirm(write: Write) -> None:
    text = "search: {protocol: transfer}\nseeds: [3]\n"
    with pytest.raises(ValueError, match=r"seeds must be at least 2 for .*transfer.*got \[3\]"):
        StudySpec.load(write(TEXT + text))


def test_the_space_alone_is_a_search(write: Write) -> None:
    space = {"inflora": ["method.rank"], "sd_lora": "all"}
    short = StudySpec.load(write(TEXT + "search: {inflora: [method.rank], sd_lora: all}"))
    long = "search: {space: {inflora: [method.rank], sd_lora: all}, protocol: whole_stream}"
    assert short.search == Search(space) == StudySpec.load(write(TEXT + long)).search


def test_the_mode_of_an_objective_may_be_given(write: Write) -> None:
    assert StudySpec.load(write(TEXT + "objective: {val/forgetting: max}")).sign == 1
    assert StudySpec.load(write(TEXT + "objective: {val/forgetting: min}")).sign == -1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("trails: 3", "unknown key 'trails'.*'trials'.*Did you mean 'trials'"),
        ("trials: 0", "trials must be a whole number of at least 1, but got 0"),
        ("trials: 2.5", "trials must be a whole number"),
        ("trials: true", "trials must be a whole number"),
        ("seeds: []", "seeds must be a list of different whole numbers"),
        ("seeds: [1, 1]", "seeds must be a list of different whole numbers"),
        ("seeds: 3", "seeds must be a list, but got 3"),
        ("seeds: [-1]", "each of seeds must be a whole number of at least 0, but got -1"),
        ("max_concurrent: 0", "max_concurrent must be a whole number of at least 1"),
        ("sampler: annealing", r"sampler must be one of \['tpe', .*\], but got 'annealing'"),
        ("pruner: {kind: median}", r"pruner.kind must be one of \['asha', 'none'\]"),
        ("pruner: {reduction: 1}", "pruner.reduction must be a whole number of at least 2"),
        ("pruner: {first_rung: 0}", "pruner.first_rung must be a whole number of at least 1"),
        ("pruner: {rungs: 3}", "unknown pruner key 'rungs'; known are"),
        ("pruner: asha", "pruner must map keys to values, but got 'asha'"),
        ("resources: {cpu: 0}", "resources.cpu must be a number of at least 0.1, but got 0"),
        (
            "resources: {gpu: -1}",
            "resources.gpu must be a number of at least 0 or 'auto', but got -1",
        ),
        ("resources: {cpu: .nan}", "resources.cpu must be a number of at least 0.1"),
        ("objective: test/accuracy", "must not look at test images.*use 'val/accuracy'"),
        ("objective: {test/forgetting: min}", "must not look at test images"),
        ("objective: {val/accuracy: up}", r"must be one of \['max', 'min'\], but got 'up'"),
        ("objective: {val/acc: max}", "objective must be one of .*but got 'val/acc'"),
        ("objective: memory/peak_device_bytes", "resources.gpu must be above 0 for objective"),
        ("objective: {[a]: max}", "a key must be a single value, but the one in line 8 is"),
        ("search: {[a]: all}", "a key must be a single value, but the one in line 8 is"),
        ("objective: {}", "objective must map metrics to max or min"),
        (
            "objective: {val/accuracy: max, val/plasticity: max}",
            r"pruner.criterion must be one of \['accuracy', .*\], or pruner.kind none, where there",
        ),
        ("search: some", "search must be .all., .none. or map each method to keys, but got 'some'"),
        ("search: {inflora: 3}", "search inflora must be 'all', a list of keys or a mapping"),
        ("search: {protocol: last}", r"search.protocol must be one of \['whole_stream', 'first_k"),
        ("search: {protocol: first_k_tasks}", "search.first_tasks must be a whole number of at"),
        (
            "search: {first_tasks: 3}",
            "search.first_tasks must be given for search.protocol first_k",
        ),
        (
            "search: {confirm_on: [{data.tasks: 3}]}",
            "search.confirm_on must be given for .* transfer",
        ),
        (
            "search: {protocol: transfer, confirm_on: [{optim.lr: 3}]}",
            "each of search.confirm_on must map keys of data to values, say .*'optim.lr': 3",
        ),
        (
            "search: {protocol: transfer, confirm_on: [{data.evaluation: test}]}",
            "data.evaluation must not be set: searches run on validation images",
        ),
        ("search: {protocol: transfer, confirm_on: x}", "search.confirm_on must be a list"),
        ("search: {compare: true}", "search.compare must be false for .* whole_stream"),
        ("search: {compare: 3}", "search.compare must be true or false, but got 3"),
        ("search: {defaults_first: 3}", "search.defaults_first must be true or false, but got 3"),
        (
            "search: {warm_start: 3}",
            "search.warm_start must be the absolute path of a study.s folder",
        ),
        ("search: {protocol: transfer, inflora: all}", "unknown search key 'inflora'; known are"),
        (
            "pruner: {criterion: speed}",
            r"pruner.criterion must be one of \['objective', 'accuracy'",
        ),
        (
            "pruner: {forgetting_weight: 2}",
            "pruner.forgetting_weight must be given for .*criterion",
        ),
        (
            "pruner: {criterion: accuracy_minus_forgetting, forgetting_weight: -1}",
            "pruner.forgetting_weight must be a number of at least 0, but got -1",
        ),
        ("budget: {gpu_hours: 0}", "budget.gpu_hours must be a number above 0, but got 0"),
        ("budget: {wall_hours: .inf}", "budget.wall_hours must be a number above 0, but got inf"),
        ("budget: {gpu_hours: 1}", "resources.gpu must be above 0 for budget.gpu_hours, but got 0"),
        ("search: {protocl: transfer}", "unknown search key 'protocl'.*Did you mean 'protocol'"),
        (
            "search: {protocol: transfer, compare: true}",
            "search.compare must be false for .*transfer",
        ),
        ("objective: [val/accuracy, val/accuracy]", "objective must name a metric once, but has"),
        ("budget: {hours: 1}", "unknown budget key 'hours'; known are"),
        ("budget: 3", "budget must map keys to values, but got 3"),
        ("retries: -1", "retries must be a whole number of at least 0, but got -1"),
        ("storage: results", "storage must be the absolute path of a folder, but got 'results'"),
        ("resources: {gpu: some}", "resources.gpu must be a number of at least 0 or 'auto'"),
        ("objective: []", "objective must map metrics to max or min"),
        ("name: a/b", "name must be letters, digits"),
        ("question: ''", "question must be a text"),
        ("fixed: [1]", "fixed must map keys to values"),
        ("fixed: {data.tasks: 3}", "data.tasks must be in grid or in fixed, but it is in both"),
        ("fixed: {seed: 3}", "seed must not be set: searches run on validation images"),
        ("fixed: {data.evaluation: test}", "data.evaluation must not be set"),
        (
            "fixed: {data.split_sha256: null}",
            "data.split_sha256 must not be set: a study records the split .* data.manifest pins",
        ),
        ("grid: {}", "grid must have at least one axis"),
        ("grid: {data.tasks: []}", "grid data.tasks must list at least one value"),
        ("grid: {data.tasks: 3}", "grid data.tasks must be a list, but got 3"),
        ("grid: {data.tasks: [3, 3]}", "grid data.tasks must list each value once, but has 3"),
        ("grid: 3", "grid must map keys to values, but got 3"),
    ],
)
def test_every_rule_has_a_message(write: Write, text: str, message: str) -> None:
    key = text.partition(":")[0]
    kept = [part for part in _parts(TEXT) if not part.startswith(f"{key}:")]
    path = write("\n".join([*kept, text]))
    with pytest.raises(ValueError, match=message) as error:
        StudySpec.load(path)
    assert str(error.value).startswith(f"{path}: ")


@pytest.mark.parametrize("key", ["name", "question", "grid"])
def test_a_missing_key_is_named(write: Write, key: str) -> None:
    kept = [part for part in _parts(TEXT) if not part.startswith(f"{key}:")]
    with pytest.raises(ValueError, match=f"the key '{key}' must be present"):
        StudySpec.load(write("\n".join(kept)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a study file must be a mapping"),
        ("[1]", "a study file must be a mapping"),
        ("a: [", "the text must be YAML"),
        ("name: a\nname: b\n", "a key must occur once, but 'name' is in line 1 and again"),
    ],
)
def test_a_broken_file_is_named(write: Write, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=rf"study\.yaml: {message}"):
        StudySpec.load(write(text))


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be read"):
        StudySpec.load(tmp_path)
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="must be text in UTF-8"):
        StudySpec.load(tmp_path / "binary.yaml")


@pytest.mark.parametrize(
    ("override", "key", "grid", "fixed"),
    [
        ("data.tasks=[5]", "data.tasks", (5,), None),
        ("data.tasks=5", "data.tasks", (5,), None),
        ("optim.epochs=3", "optim.epochs", None, 3),
        ("optim.lr=1e-4", "optim.lr", None, 1e-4),
        ("optim.lr=[1e-4, 1e-3]", "optim.lr", (1e-4, 1e-3), None),
        ("backbone.adapt=[q, v]", "backbone.adapt", None, ["q", "v"]),
        ("backbone.adapt=[[q], [v]]", "backbone.adapt", (["q"], ["v"]), None),
    ],
)
def test_set_changes_flat_keys(
    write: Write, override: str, key: str, grid: Any, fixed: Any
) -> None:
    spec = StudySpec.load(write(TEXT), [override])
    assert (spec.grid.get(key), spec.fixed.get(key)) == (grid, fixed)


def test_set_changes_sections(write: Write) -> None:
    spec = StudySpec.load(write(TEXT), ["trials=2", "seeds=[5,6]", "pruner={kind: none}"])
    assert (spec.trials, spec.seeds, spec.pruner.kind) == (2, (5, 6), "none")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trials", "--set must have the form key=value, but got 'trials'"),
        ("=3", "--set must have the form key=value"),
        ("optim.lrr=3", "unknown key of --set 'optim.lrr'.*Did you mean 'optim.lr'"),
        ("trials=[", "--set trials: the text must be YAML"),
        ("trials=x", "trials must be a whole number of at least 1, but got 'x'"),
        ("seed=3", "seed must not be set"),
    ],
)
def test_a_wrong_set_is_refused(write: Write, override: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StudySpec.load(write(TEXT), [override])


def _parts(text: str) -> list[str]:
    """Top-level entries of a study file."""
    parts: list[str] = []
    for line in text.strip().splitlines():
        if line.startswith(" "):
            parts[-1] += f"\n{line}"
        else:
            parts.append(line)
    return parts


PUBLISHED = """
name: small
question: Does it run?
grid: {method.name: [inflora, sequential], data.tasks: [5, 10]}
fixed: {recipe: inflora/imagenet_r}
seeds: published
"""


def test_published_seeds_are_those_of_the_recipe(write: Write) -> None:
    assert StudySpec.load(write(PUBLISHED)).seeds == (0, 1, 2, 3, 4)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("fixed: {recipe: inflora/imagenet_r}", "", "seeds must be a list of numbers unless a"),
        (
            "data.tasks: [5, 10]}\nfixed: {recipe: inflora/imagenet_r}",
            "recipe: [inflora/imagenet_r, sd_lora/imagenet_r]}",
            "seeds must be a list of numbers where cells were published with different",
        ),
        ("inflora/imagenet_r", "imagenet_r", "recipe must be one of"),
    ],
)
def test_published_seeds_need_one_protocol(write: Write, old: str, new: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StudySpec.load(write(PUBLISHED.replace(old, new)))
