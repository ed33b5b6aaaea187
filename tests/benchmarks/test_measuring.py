import itertools
import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.benchmarks import __main__ as entry
from tests.benchmarks import bench_checkpoint, measuring, ours
from tests.benchmarks.measuring import Row
from tests.benchmarks.shares import REST, Shares
from tests.boundaries.test_light_imports import without
from tests.study.small_study import FIXED
from trainables import usage
from trainables.config import TrialConfig
from trainables.trainer import SequentialTrainer

pytestmark = pytest.mark.nightly

CPU = torch.device("cpu")
TINY = {**FIXED, "method.name": "inflora", "data.tasks": 2, "optim.epochs": 2}


@pytest.mark.parametrize(
    ("row", "verdict"),
    [
        (Row("a", 1.0, 1.0), "ok"),
        (Row("a", 1.1, 1.0), "OVER"),
        (Row("a", 1.0, 1.0, at_least=True), "ok"),
        (Row("a", 0.9, 1.0, at_least=True), "UNDER"),
        (Row("a", 0.9), "stated"),
        (Row("a", None, 1.0), "not measured"),
    ],
)
def test_verdicts(row: Row, verdict: str) -> None:
    assert row.verdict == verdict
    assert verdict in row.line
    # A small ratio is not printed as nothing.
    assert "7.7e-05" in Row("a", 7.7e-5, 0.02).line


def test_without_a_gpu_there_is_no_number(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(measuring, "device", lambda: CPU)
    path = tmp_path / "new" / "rows.json"
    assert entry.main(["packing", "gpu", "--json", str(path)]) == 0
    kept = json.loads(path.read_text(encoding="utf-8"))
    assert [report["benchmark"] for report in kept] == ["packing", "gpu"]
    assert {row["ratio"] for report in kept for row in report["rows"]} == {None}
    assert kept[0]["machine"]["torch"] == torch.__version__
    assert "needs a GPU" in capsys.readouterr().out


def test_load_and_time_are_from_before_rows_that_come_all_at_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    loads = itertools.count(1.0)
    monkeypatch.setattr(measuring, "load", lambda: next(loads))

    def rows() -> list[Row]:
        time.sleep(0.6)
        return [Row("a", measuring.load())]

    monkeypatch.setattr(entry, "load", lambda _: SimpleNamespace(rows=rows))
    path = tmp_path / "rows.json"
    assert entry.main(["packing", "--json", str(path)]) == 0
    (kept,) = json.loads(path.read_text(encoding="utf-8"))
    assert kept["machine"]["load"] < kept["rows"][0]["ratio"]
    assert kept["seconds"] >= 1


def test_an_unknown_benchmark_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        entry.main(["steps"])
    assert "'steps'" in capsys.readouterr().err


def test_torch_and_timm_are_enough_for_what_a_trainer_does() -> None:
    without(
        ("ray", "optuna", "mlflow"),
        "from tests.benchmarks import __main__ as entry\n"
        "names = [path.stem.removeprefix('bench_') for path in entry.FOLDER.glob('bench_*.py')]\n"
        "lost = {name for name in names if entry.load(name) is None}\n"
        "assert lost == {'overhead', 'report', 'scheduling', 'tracking'}\n",
    )


def test_turns_alternate_after_one_call_each() -> None:
    calls: list[str] = []
    both = {name: lambda name=name: calls.append(name) for name in "ab"}
    seconds = measuring.in_turns(both, CPU, 2)
    assert calls == ["a", "b"] * 3
    assert set(seconds) == {"a", "b"}


def test_a_part_inside_another_takes_its_own_time_away(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = itertools.count()
    monkeypatch.setattr(measuring, "now", lambda _device: float(next(ticks)))
    shares = Shares(CPU)
    with shares.watching():
        torch.linalg.qr(torch.eye(2))
        torch.linalg.qr(torch.eye(2))
    # From 0: in at 1, out at 2, in at 3, out at 4, the end at 5.
    assert shares.parts == {REST: 3.0, "decompositions": 2.0}


def test_each_moment_of_a_trial_is_counted_once() -> None:
    trainer = SequentialTrainer(TrialConfig.from_params(TINY))
    shares = Shares(CPU)
    lap = usage.Clock.lap
    start = measuring.now(CPU)
    with shares.watching():
        trainer.train_task()
        trainer.train_task()
    total = measuring.now(CPU) - start
    assert usage.Clock.lap is lap
    assert sum(shares.parts.values()) == pytest.approx(total, rel=0.05)
    expected = {"forward", "backward", "optimizer", "data", "moments", "decompositions"}
    assert set(shares.parts) == expected | {"evaluation", REST}
    assert shares.of_phase("design", part="moments") > 0
    assert shares.of_phase("train", part="moments") == 0
    assert shares.of_phase("evaluate", part="evaluation") == shares.parts["evaluation"]


@pytest.mark.parametrize("method", ["inflora", "sd_lora"])
def test_a_trial_stands_at_the_task_that_was_asked_for(method: str) -> None:
    # Two steps: while `up` is zero, `down` and the magnitude have no gradient.
    config = ours.config_of(method, 4, 2, ours.SMALL)
    trial = ours.at_task(config, 5, ours.random_images(4, CPU, 1, 32))
    assert trial.task.classes == range(8, 10)
    features = trial.model(torch.rand(1, 1, 32, 32))
    assert trial.method.logits(features).shape == (1, 10)
    (first, *_) = trial.model.layers.values()
    assert len(first.branches) == 2
    if method == "sd_lora":
        assert [len(first.stack_of(name)) for name in first.slices] == [4, 4]
    trained = [parameter for group in trial.groups for parameter in group.parameters]
    before = [parameter.detach().clone() for parameter in trained]
    trial.train_steps()
    assert not any(torch.equal(a, b) for a, b in zip(before, trained, strict=True))


@pytest.mark.parametrize("method", ["inflora", "sd_lora"])
def test_a_checkpoint_holds_all_that_fifty_tasks_leave(method: str, tmp_path: Path) -> None:
    size, seconds = bench_checkpoint.save_after(method, "vit_tiny_patch16_224", CPU, tmp_path, 192)
    state = torch.load(tmp_path / "trainer.pt", weights_only=True)
    assert len(state["method"]["heads"]["weights"]) == len(state["matrix"]) == 50
    changes = state["model"]["layer_00"]
    if method == "inflora":
        assert set(changes["rows"]) == {"k", "v"}
        # Memories of just under half of the 192 dimensions.
        assert any(tensor.shape[-1] == 95 for tensor in _tensors(state["method"]["memories"]))
    else:
        assert {stack["up"].shape for stack in changes["stacks"].values()} == {(192, 500)}
    assert size > sum(tensor.nbytes for tensor in _tensors(state))
    assert seconds > 0


def _tensors(state: Any) -> list[torch.Tensor]:
    if isinstance(state, dict):
        state = list(state.values())
    if isinstance(state, list | tuple):
        return [tensor for value in state for tensor in _tensors(value)]
    return [state] if isinstance(state, torch.Tensor) else []
