"""The share of a GPU: arithmetic, and which trials are measured."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from study.engine.resources import gpu_share
from study.planning.costs.probe import Measured
from study.planning.costs.trial_cost import device_need, heaviest, share, shared_among
from tests.study.small_study import small_plan

GB = 10**9


def measured(*peaks: int, total: int | None = 80 * GB) -> Measured:
    return Measured(1.0, (), (), (), (1, 0.1), peaks, total)


@pytest.mark.parametrize(
    ("need", "total", "expected"),
    [
        (70, 80, 1.0),  # alone
        (37, 80, 1.0),  # 2 × 37 would fit but for the margin
        (36, 80, 0.5),
        (24, 80, 0.3333),
        (1, 80, 0.125),  # eight at most
        (100, 80, 1.0),  # it is tried all the same: micro-batches may help
    ],
)
def test_as_many_trials_share_a_gpu_as_fit_with_a_margin(
    need: float, total: float, expected: float
) -> None:
    assert share(need, total) == expected


def test_as_many_shares_as_trials_fit_into_ray_s_steps() -> None:
    for count in range(1, 9):
        part = share(80 / (1.1 * count) - 1e-6, 80)
        assert round(part * 10_000) * count <= 10_000
        assert int(1 / part + 1e-9) == count


def test_memory_that_grows_is_extrapolated_to_the_last_task() -> None:
    needs = [
        device_need(peaks, tasks) for peaks, tasks in (([10, 12], 50), ([12, 10], 50), ([12], 1))
    ]
    assert needs == [12 + 2 * 48, 10, 12]


def test_the_neediest_decides_and_what_could_not_be_measured_gets_all() -> None:
    small, large = measured(5 * GB, 5 * GB), measured(20 * GB, 20 * GB)
    assert shared_among([small, large], 10) == 0.3333
    assert shared_among([small, None], 10) == 1.0


def test_the_longest_cell_of_each_kind_is_measured_at_the_needy_end() -> None:
    plan = small_plan(
        search={
            "inflora": {"method.rank": {"low": 2, "high": 7}, "optim.lr": None},
            "sd_lora": {"optim.batch_size": {"choices": [64, 8]}, "optim.lr": None},
        },
        fixed={"optim.epochs": 9},
    )
    inflora, sd_lora = heaviest(plan.cells)
    assert (inflora["method.name"], inflora["method.rank"]) == ("inflora", 7)
    assert (sd_lora["method.name"], sd_lora["optim.batch_size"]) == ("sd_lora", 64)
    for params in (inflora, sd_lora):
        assert (params["data.tasks"], params["optim.epochs"]) == (4, 1)
        assert params["data.evaluation"] == "validation"


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A cluster with GPUs, whose tasks run here and now; `options` are those of its tasks."""
    found = SimpleNamespace(have={"CPU": 8.0, "GPU": 2.0}, options={})

    def remote(**options: Any) -> Any:
        found.options = options
        return lambda work: SimpleNamespace(remote=work)

    found.cluster_resources, found.remote, found.get = lambda: found.have, remote, lambda done: done
    monkeypatch.setattr("study.engine.resources.ray", found)
    return found


def test_a_number_is_taken_as_it_is_and_auto_is_nothing_without_a_gpu(ray: SimpleNamespace) -> None:
    assert gpu_share(small_plan(resources={"gpu": 0.25})) == 0.25
    ray.have = {"CPU": 8.0}
    assert gpu_share(small_plan(resources={"gpu": "auto"})) == 0


def test_auto_measures_each_kind_of_cell_on_a_gpu_of_its_own(
    ray: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = []

    def measure(params: dict[str, Any], cpu: float, gpu: bool) -> Measured:
        asked.append((params["method.name"], params["data.tasks"], cpu, gpu))
        if params["method.name"] == "inflora":
            return measured(10 * GB, 10 * GB)
        return measured(10 * GB, 11 * GB)  # 13 at task 4: 5 of them, not 7

    monkeypatch.setattr("study.engine.resources.measure", measure)
    assert gpu_share(small_plan(resources={"gpu": "auto", "cpu": 2})) == 0.2
    assert asked == [("inflora", 4, 2, True), ("sd_lora", 4, 2, True)]
    assert ray.options["num_gpus"] == 1
    out = capsys.readouterr().out
    assert "resources.gpu auto: measuring inflora on test_vit\n" in out
    assert "resources.gpu auto: 0.2 of a GPU for each trial\n" in out


def test_a_trial_that_needs_more_than_a_gpu_gets_one(
    ray: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def measure(*arguments: Any, **options: Any) -> Measured:
        raise torch.OutOfMemoryError("CUDA out of memory.\nmore")

    monkeypatch.setattr("study.engine.resources.measure", measure)
    assert gpu_share(small_plan(resources={"gpu": "auto"})) == 1.0
    said = "could not be measured (CUDA out of memory.): a trial gets a whole GPU"
    assert said in capsys.readouterr().out
