"""The share of a GPU: arithmetic, and which trials are measured."""

import sys
import types
from typing import Any

import pytest
import torch

from study import device_share
from study.device_share import device_need, gpu_share, heaviest, share, shared_among
from study.probe import Measured
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
        one = share(80 / (1.1 * count) - 1e-6, 80)
        assert round(one * 10_000) * count <= 10_000
        assert int(1 / one + 1e-9) == count


def test_memory_that_grows_is_extrapolated_to_the_last_task() -> None:
    assert device_need([10.0, 12.0], 50) == 12 + 2 * 48
    assert device_need([12.0, 10.0], 50) == 10
    assert device_need([12.0], 1) == 12


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
    found = {one["method.name"]: one for one in heaviest(plan.cells)}
    assert len(heaviest(plan.cells)) == 2
    assert {one["data.tasks"] for one in found.values()} == {4}
    assert found["inflora"]["method.rank"] == 7
    assert found["sd_lora"]["optim.batch_size"] == 64
    assert {one["optim.epochs"] for one in found.values()} == {1}
    assert {one["data.evaluation"] for one in found.values()} == {"validation"}


def test_a_number_is_taken_as_it_is() -> None:
    assert gpu_share(small_plan(resources={"gpu": 0.25})) == 0.25


class _Ray(types.ModuleType):
    """A cluster with GPUs, whose tasks run here and now."""

    def __init__(self, gpus: int) -> None:
        super().__init__("ray")
        self.gpus = gpus
        self.options: dict[str, Any] = {}

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 8.0, **({"GPU": float(self.gpus)} if self.gpus else {})}

    def remote(self, **options: Any) -> Any:
        self.options = options
        return lambda work: types.SimpleNamespace(remote=lambda *given: lambda: work(*given))

    def get(self, pending: Any) -> Any:
        return pending()


def test_auto_is_nothing_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", _Ray(0))
    assert gpu_share(small_plan(resources={"gpu": "auto"})) == 0


def test_auto_measures_each_kind_of_cell_on_a_gpu_of_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ray = _Ray(2)
    asked = []

    def measure(params: dict[str, Any], cpu: float, gpu: bool) -> Measured:
        asked.append((params["method.name"], params["data.tasks"], cpu, gpu))
        if params["method.name"] == "inflora":
            return measured(10 * GB, 10 * GB)
        return measured(10 * GB, 11 * GB)  # 13 at task 4: 5 of them, not 7

    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setattr(device_share, "measure", measure)
    assert gpu_share(small_plan(resources={"gpu": "auto", "cpu": 2})) == 0.2
    assert asked == [("inflora", 4, 2, True), ("sd_lora", 4, 2, True)]
    assert ray.options["num_gpus"] == 1
    out = capsys.readouterr().out
    assert "resources.gpu auto: measuring inflora on test_vit\n" in out
    assert "resources.gpu auto: 0.2 of a GPU for each trial\n" in out


def test_a_trial_that_needs_more_than_a_gpu_gets_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def measure(*arguments: Any) -> Measured:
        raise torch.OutOfMemoryError("CUDA out of memory.\nmore")

    monkeypatch.setitem(sys.modules, "ray", _Ray(1))
    monkeypatch.setattr(device_share, "_measure_memory", measure)
    assert gpu_share(small_plan(resources={"gpu": "auto"})) == 1.0
    assert "could not be measured (CUDA out of memory.): a trial gets a whole GPU" in (
        capsys.readouterr().out
    )
