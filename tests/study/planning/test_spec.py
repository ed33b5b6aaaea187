import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from study.commands.plan import describe
from study.errors import InvalidStudyError
from study.planning.plan import make_plan
from study.planning.sections import Pruner, Resources, Search
from study.planning.spec import StudySpec

TEXT = """
name: small
question: Does it run?
grid:
  method.name: [inflora, sd_lora]
  data.tasks: [2, 4]
fixed:
  optim.lr: 1e-3
"""
Load = Callable[..., StudySpec]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Loads a study file: the small one unless another text is given."""

    def from_file(*overrides: str, text: str = TEXT) -> StudySpec:
        path = tmp_path / "study.yaml"
        path.write_text(text, encoding="utf-8")
        return StudySpec.load(path, overrides)

    return from_file


def test_defaults_and_values(load: Load) -> None:
    spec = load("seeds=[3, 4]", "pruner={first_rung: 5}")
    assert spec.grid == {"method.name": ("inflora", "sd_lora"), "data.tasks": (2, 4)}
    assert spec.fixed == {"optim.lr": 1e-3}
    assert (spec.metric, spec.sign, spec.seeds) == ("val/accuracy", 1, (3, 4))
    assert spec.search == Search(space="all", protocol="whole_stream")
    assert spec.pruner == Pruner(kind="asha", reduction=3, first_rung=5)
    assert spec.resources == Resources(cpu=1, gpu=0)
    assert load("resources={gpu: 0.5}", "objective=memory/peak_device_bytes").sign == -1


def test_plain_data_gives_the_same_spec_back(load: Load) -> None:
    spec = load()
    plain = json.loads(json.dumps(spec.to_plain()))
    assert StudySpec.from_plain(plain, spec.source) == spec
    # A whole number for a share is none with a point: ledgers have it as it was written.
    assert json.dumps(plain["resources"]) == '{"cpu": 1, "gpu": 0}'


def test_an_objective_has_the_usual_mode_unless_another_is_given(load: Load) -> None:
    both = load("pruner={kind: none}", "objective=[val/accuracy, time/train_seconds]")
    assert both.objective == {"val/accuracy": "max", "time/train_seconds": "min"}
    assert (both.metric, both.signs) == ("val/accuracy", (1, -1))
    assert load("objective=val/forgetting").sign == -1
    assert load("objective={val/forgetting: max}").sign == 1


def test_the_space_alone_is_a_search(load: Load) -> None:
    space = "{inflora: [method.rank], sd_lora: all}"
    short = load(f"search={space}").search
    assert short == load(f"search={{space: {space}, protocol: whole_stream}}").search
    assert short == Search(space={"inflora": ["method.rank"], "sd_lora": "all"})


# Almost every rule that a file can break at the same time as all others.
BROKEN = """
question: ''
trails: 3
grid:
  {method.name: [inflora], data.tasks: [3, 3], method.rank: [], optim.epoch: [1], seed: [1],
  optim.lr: 1}
fixed: {method.name: joint, data.evaluation: test, data.split_sha256: null, 3: 4}
settings: {inflora: {data.tasks: 3}, sd_lora: {optim.rate: 1}}
search:
  {protocol: last, first_tasks: 0, confirm_on: [{optim.lr: 3}, 4, {data.evaluation: test}],
  compare: 3, warm_start: here, inflora: all}
objective: {test/accuracy: min, val/acc: max, val/accuracy: up}
sampler: annealing
pruner: {kind: median, reduction: 1, first_rung: 0, criterion: speed, rungs: 3}
trials: 2.5
budget: {gpu_hours: 0, wall_hours: .inf}
seeds: [-1]
margin: 0
contrasts:
  [inflora, {first: a, metric: test/acc, whre: 1}, {first: a, second: b, metric: test/forgetting,
  non_inferiority: true, where: 3}]
resources: {cpu: .nan, gpu: some}
max_concurrent: 0
retries: true
storage: results
tracking: wandb
"""
SENTENCES = """
the key 'name' must be present.
question must be a text, but got ''.
grid data.tasks must list each value once, but got [3, 3].
grid method.rank must list at least one value, but got [].
unknown key 'optim.epoch'. Did you mean 'optim.epochs'?
seed must not be set: searches run on validation images with the first of seeds, …
grid optim.lr must be a list, but got 1.
data.evaluation must not be set: searches run on validation images with the first of seeds, …
data.split_sha256 must not be set: a study records the split that it finds when it starts and …
each key of fixed must be a text, but got 3.
settings inflora must map keys of method and optim to values, say {optim.lr: 0.001}, but got …
unknown key 'optim.rate'. Did you mean 'optim.lr'?
search.protocol must be one of ['whole_stream', 'first_k_tasks', 'transfer'], but got 'last'.
search.first_tasks must be a whole number of at least 1, but got 0.
each of search.confirm_on must map keys of data to values, say {data.name: cub200}, but got …
each of search.confirm_on must map keys to values, but got 4.
search.compare must be true or false, but got 3.
search.warm_start must be the absolute path of a study's folder, but got 'here'.
unknown search key 'inflora'; known are ['compare', 'confirm_on', 'defaults_first', …
objective must not look at test images (settings chosen on them would be flattered), but got …
objective must be one of 19 names, but got …
objective val/accuracy must be one of ['max', 'min'], but got 'up'.
sampler must be one of ['tpe', 'multivariate_tpe', 'gp', 'nsga2', 'random', 'grid', 'qmc'], but …
pruner.kind must be one of ['asha', 'none'], but got 'median'.
pruner.reduction must be a whole number of at least 2, but got 1.
pruner.first_rung must be a whole number of at least 1, but got 0.
pruner.criterion must be one of ['objective', 'accuracy', 'average_anytime_accuracy', …
unknown pruner key 'rungs'; known are ['criterion', 'first_rung', 'forgetting_weight', 'kind', …
trials must be a whole number of at least 1, but got 2.5.
budget.gpu_hours must be a number above 0, but got 0.
budget.wall_hours must be a number above 0, but got inf.
each of seeds must be a whole number of at least 0, but got -1.
each of contrasts must be 'A vs B', two values of a key of the grid, or map at least {first, …
the key 'second' of contrasts, entry 2 must be present.
metric of contrasts must be one of 24 names, but got …
unknown contrasts key 'whre'. Did you mean 'where'? Known are ['first', 'key', 'metric', …
contrasts, entry 3: where must map keys to values, but got 3.
non_inferiority of contrasts must be false for test/forgetting, of which less is better: not to …
margin must be a number above 0, but got 0.
resources.cpu must be a number of at least 0.1, but got nan.
resources.gpu must be a number of at least 0 or 'auto', but got 'some'.
max_concurrent must be a whole number of at least 1, but got 0.
retries must be a whole number of at least 0, but got True.
storage must be the absolute path of a folder, but got 'results'.
tracking must be one of ['mlflow', 'none'], but got 'wandb'.
unknown key 'trails'. Did you mean 'trials'?
method.name must be in grid or in fixed, but it is in both.
"""


def test_all_mistakes_are_told_at_once_a_line_each(load: Load, tmp_path: Path) -> None:
    with pytest.raises(InvalidStudyError) as error:
        load(text=BROKEN)
    head, *lines = str(error.value).splitlines()
    expected = SENTENCES.strip().splitlines()
    for line, sentence in zip(lines, expected, strict=True):
        assert line.startswith(f"  {sentence.removesuffix('…')}"), line
        assert sentence.endswith("…") or line == f"  {sentence}"
    assert head == f"{tmp_path / 'study.yaml'}: {len(expected)} mistakes:"
    for name in ("'test/accuracy': use 'val/accuracy'", "'val/acc'. Did you mean 'val/accuracy'"):
        assert name in str(error.value)
    assert "Did you mean 'trials'" in str(error.value)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("name=a/b", "name must be letters, digits, '_', '-' and '.' .*, but got 'a/b'"),
        (f"name={'a' * 201}", "name must have at most 200 bytes .*, but got 'a"),
        (f"name=a{'é' * 100}", "name must have at most 200 bytes .*, but got 'a"),
        ("grid=3", "grid must map keys to values, but got 3"),
        ("grid={}", "grid must have at least one axis"),
        ("pruner=asha", "pruner must map keys to values, but got 'asha'"),
        ("seeds=3", "seeds must be a list, but got 3"),
        ("seeds=[1, 1]", "seeds must be a list of different whole numbers"),
        ("objective=memory/peak_device_bytes", "resources.gpu must be above 0 for objective"),
        ("objective=[val/accuracy, val/accuracy]", "objective must name a metric once, but has"),
        ("objective=[]", "objective must map metrics to max or min"),
        ("objective=[val/accuracy, val/plasticity]", r"pruner.criterion must be one of \['acc"),
        ("search=some", "search must be 'all', 'none' or map each method to keys, but got 'some'"),
        ("search={}", "search must be 'all', 'none' or map each method to keys, but got {}"),
        ("search={protocl: transfer}", "unknown search key 'protocl'.*Did you mean 'protocol'"),
        ("search={protocol: first_k_tasks}", "search.first_tasks must be a whole number of at"),
        ("search={first_tasks: 3}", "search.first_tasks must be given for .* first_k_tasks only"),
        (
            "search={evaluate: rungs} & objective=[val/accuracy, val/forgetting] "
            "& pruner={kind: none}",
            "search.evaluate must be every_task for objective val/forgetting, .* but got 'rungs'",
        ),
        (
            "search={evaluate: rungs} & pruner={criterion: average_anytime_accuracy}",
            "search.evaluate must be every_task for pruner.criterion average_anytime_accuracy",
        ),
        ("search={confirm_on: [{data.tasks: 3}]}", "search.confirm_on must be .* transfer only"),
        ("search={compare: true}", "search.compare must be false for .* whole_stream"),
        ("search={protocol: transfer, compare: true}", "search.compare must be false for .*trans"),
        ("pruner={forgetting_weight: 2}", "pruner.forgetting_weight must be given for .*criterion"),
        ("budget={gpu_hours: 1}", "resources.gpu must be above 0 for budget.gpu_hours, but got 0"),
        ("search={protocol: transfer} & seeds=[3]", r"seeds must be at least 2 .*transfer.* \[3\]"),
        ("trials", "--set must have the form key=value, but got 'trials'"),
        ("trials=2 & trials=3", "--set must give each key once, but 'trials' is there twice"),
        ("data.tasks=2 &  data.tasks =3", "--set must give each key once, but 'data.tasks' is"),
        ("optim.lr=2 & fixed={optim.lr: 3}", "--set must give each key once, but 'optim.lr' is"),
        ("data.tasks=2 & grid={data.tasks: [3]}", "--set must give each key once, but 'data.ta"),
        ("grid=3 & data.tasks=2", "grid must map keys to values, but got 3"),
        ("=3", "--set must have the form key=value"),
        ("optim.lrr=3", "unknown key of --set 'optim.lrr'.*Did you mean 'optim.lr'"),
        ("trials=[", "--set trials: the text must be YAML"),
        ("trials=x", "trials must be a whole number of at least 1, but got 'x'"),
        ("seed=3", "seed must not be set"),
    ],
)
def test_what_does_not_go_together_is_refused(
    load: Load, tmp_path: Path, override: str, message: str
) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(str(tmp_path))}/study.yaml: {message}"):
        load(*override.split(" & "))


@pytest.mark.parametrize(
    ("overrides", "after"),
    [
        ([], (3, 9, 20)),
        (["pruner={kind: none}"], (20,)),
        (["search={evaluate: every_task}"], None),
        (["objective=val/backward_transfer"], None),
        (["pruner={criterion: accuracy_minus_forgetting}"], None),
        (["pruner={kind: none, criterion: average_anytime_accuracy}"], (20,)),
        (["objective=memory/subspace_bytes", "pruner={criterion: accuracy}"], (3, 9, 20)),
    ],
)
def test_searches_evaluate_at_rungs_and_the_end_unless_something_needs_more(
    load: Load, overrides: list[str], after: tuple[int, ...] | None
) -> None:
    spec = load(*overrides)
    assert spec.evaluated("search", 20) == after
    assert spec.evaluated("confirm", 20) is None
    needing = bool(after is None and spec.search.evaluate is None)
    said = [line for line in describe(make_plan(spec)) if "after every task" in line]
    assert len(said) == needing


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a study file must be a mapping"),
        ("[1]", "a study file must be a mapping"),
        ("a: [", "the text must be YAML"),
        ("name: a\nname: b\n", "a key must occur once, but 'name' is in line 1 and again"),
    ],
)
def test_a_broken_file_is_named(load: Load, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=rf"study\.yaml: {message}"):
        load(text=text)


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
def test_set_changes_flat_keys(load: Load, override: str, key: str, grid: Any, fixed: Any) -> None:
    spec = load(override)
    assert (spec.grid.get(key), spec.fixed.get(key)) == (grid, fixed)


def test_the_order_of_changes_changes_nothing(load: Load) -> None:
    changes = ["fixed={data.name: icons}", "optim.epochs=3", "grid={data.tasks: [5]}", "trials=2"]
    changes += ["method.name=[inflora]"]
    spec = load(*changes)
    assert spec == load(*reversed(changes))
    assert spec.fixed == {"data.name": "icons", "optim.epochs": 3}
    assert spec.grid == {"data.tasks": (5,), "method.name": ("inflora",)}


def test_methods_that_are_left_out_take_what_is_theirs_along(load: Load) -> None:
    own = "{inflora: {optim.head_lr: 1e-3}, sd_lora: {optim.head_lr: 1e-4}}"
    text = f"{TEXT}settings: {own}\nsearch:\n  inflora: [method.rank]\n  sd_lora: [method.rank]\n"
    for change in ("method.name=[sd_lora]", "grid={method.name: [sd_lora]}"):
        spec = load(change, text=text)
        assert spec.settings == {"sd_lora": {"optim.head_lr": 1e-4}}
        assert isinstance(spec.search.space, dict) and list(spec.search.space) == ["sd_lora"]
        # What is given beside it is not the file's, and neither is a method that never ran.
        assert len(load(change, f"settings={own}", text=text).settings) == 2
    assert (
        "joint"
        in load("method.name=[sd_lora]", text=text.replace("inflora: {", "joint: {")).settings
    )


PUBLISHED = """
name: small
question: Does it run?
grid: {method.name: [inflora, sequential], data.tasks: [5, 10]}
fixed: {recipe: inflora/imagenet_r}
seeds: published
"""


def test_published_seeds_are_those_of_the_recipe(load: Load) -> None:
    assert load(text=PUBLISHED).seeds == (0, 1, 2, 3, 4)


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
def test_published_seeds_need_one_protocol(load: Load, old: str, new: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load(text=PUBLISHED.replace(old, new))


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (f"seeds={list(range(1001))}", "seeds must be at most 1000, but got 1001"),
        (f"optim.lr={list(range(2001))}", "grid optim.lr must list at most 2000 values, but got "),
        (
            f"optim.epochs={list(range(1, 502))}",
            "grid must span at most 2000 cells, but spans 2004",
        ),
    ],
)
def test_a_study_beyond_the_limits_is_refused(load: Load, change: str, rule: str) -> None:
    with pytest.raises(InvalidStudyError, match=re.escape(rule)):
        load(change)


@pytest.mark.parametrize(
    "change",
    [
        "sampler=" + "x" * 3000,
        "x" * 3000 + "=1",
        f"trials={[1] * 3000}",
        f"fixed={{{'x' * 1000}: 1}}",
        f"seeds={['x' * 3000] * 200}",
        "sampler=" + "x y " * 800,
        "question={" + ", ".join(f"a{at}: 1" for at in range(800)) + "}",
    ],
)
def test_no_message_repeats_a_long_value(load: Load, change: str) -> None:
    with pytest.raises(InvalidStudyError) as caught:
        load(change)
    lines = str(caught.value).splitlines()
    assert len(lines) <= 52 and "…" in str(caught.value)
    # The known names of a key are no value: they are a page at most.
    assert all(len(line.partition("known are")[0]) < 600 for line in lines)
