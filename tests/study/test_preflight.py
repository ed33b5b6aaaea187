"""What the driver makes of the reports of nodes."""

from pathlib import Path

import pytest

from study import checked_trainable, node_check, preflight
from study.checked_trainable import NodeCheckError, check_and_remember, checked
from study.node_check import Expected, NodeReport, Problem
from study.rules import MistakeError
from tests.study.fake_trainable import FakeTrainable
from tests.study.small_study import small_plan

WRONG = Problem("disk", "/mnt must have 2.0 GiB free, but has 0.5.", "make room there")


def expected_in(folder: Path) -> Expected:
    return Expected(folder, "abc", "1", {}, (), 0)


def test_every_wrong_node_is_named_with_what_mends_it(capsys: pytest.CaptureFixture[str]) -> None:
    reports = {
        "a (10.0.0.1, 12)": NodeReport("a", ()),
        "b (10.0.0.2, 34)": NodeReport("b", (WRONG,)),
    }
    message = str(preflight._refusal(reports))
    assert message == (
        "every node must pass the check before a study starts, but b (10.0.0.2, 34) does not "
        "(disk; see above). What is no problem for this study is left out with "
        "LRCS_SKIP_CHECKS=disk."
    )
    lines = capsys.readouterr().out.splitlines()
    assert any("a (10.0.0.1, 12)" in line and "nothing" in line for line in lines)
    assert lines[-2:] == [
        "b (10.0.0.2, 34), disk: /mnt must have 2.0 GiB free, but has 0.5.",
        "  mend it: make room there",
    ]


def test_what_a_node_writes_must_come_to_the_driver(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_check, "STORAGE_SECONDS", 0.0)
    expected = expected_in(tmp_path)
    report = preflight._read_back(expected, NodeReport("a", ()), "node1")
    assert [one.text for one in report.problems] == [
        f"what it writes to {tmp_path} does not come to the machine that drives the study."
    ]
    expected.folder.mkdir(parents=True)
    (expected.folder / "node1").write_text("abc")
    assert preflight._read_back(expected, NodeReport("a", ()), "node1").problems == ()


def test_data_must_be_the_same_on_all_nodes() -> None:
    from trainables.config import DataConfig

    config = DataConfig(name="cifar100")
    splits = {"a": "1" * 64, "b": "2" * 64, "c": "1" * 64}
    found = preflight._agreed(
        {key: NodeReport(key, (), {config: one}) for key, one in splits.items()}
    )
    assert [key for key, one in found.items() if one.problems] == ["b"]
    assert found["b"].problems[0].text == (
        "cifar100 must be the same on all nodes (most have the split 111111111111), but here it "
        "has 222222222222."
    )


def test_only_nodes_that_can_run_a_trial_need_data_and_gpus(tmp_path: Path) -> None:
    plan = small_plan(resources={"cpu": 2, "gpu": "auto"})
    head = {"Resources": {"CPU": 0.0}}
    worker = {"Resources": {"CPU": 8.0, "GPU": 4.0}}
    assert preflight._gpus_of_a_trial(plan, {"head": head}) == 0
    gpus = preflight._gpus_of_a_trial(plan, {"head": head, "worker": worker})
    expected = expected_in(tmp_path)
    found = [preflight._expected_of(expected, one, 2, gpus) for one in (head, worker)]
    assert [(one.trials, one.gpus) for one in found] == [(False, 0), (True, 4)]


def test_a_check_to_leave_out_must_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LRCS_SKIP_CHECKS", "gpu, disk")
    assert preflight._expected(small_plan(), tmp_path).skip == {"gpu", "disk"}
    monkeypatch.setenv("LRCS_SKIP_CHECKS", "gpus")
    with pytest.raises(MistakeError, match="unknown check in LRCS_SKIP_CHECKS 'gpus'; known are"):
        preflight._expected(small_plan(), tmp_path)


@pytest.fixture
def checks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The nodes that were checked; those named "bad" are not ready."""
    found: list[str] = []

    def check(expected: Expected, node: str) -> NodeReport:
        found.append(node)
        return NodeReport(node, (WRONG,) if node == "bad" else ())

    monkeypatch.setattr(checked_trainable, "check", check)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return found


def test_a_node_that_is_ready_is_checked_once(checks: list[str], tmp_path: Path) -> None:
    for node in ("good", "bad", "good", "bad"):
        assert bool(check_and_remember(expected_in(tmp_path), node).problems) == (node == "bad")
    assert checks == ["good", "bad", "bad"]


@pytest.mark.parametrize("node", ["good", "bad"])
def test_a_node_that_joins_later_is_checked_by_its_first_trial(
    checks: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, node: str
) -> None:
    class Context:
        def get_node_id(self) -> str:
            return node

    monkeypatch.setattr(checked_trainable, "get_runtime_context", Context)
    monkeypatch.setattr(checked_trainable, "PATIENCE_SECONDS", 0.05)
    monkeypatch.setattr(checked_trainable, "PAUSE_SECONDS", 0.02)
    trial = checked(FakeTrainable, expected_in(tmp_path))
    assert trial.__name__ == "FakeTrainable"
    if node == "good":
        assert trial({"optim.momentum": 0.0}).task == 0
    else:
        with pytest.raises(NodeCheckError) as error:
            trial({"optim.momentum": 0.0})
        assert str(error.value) == (
            "node bad: disk: /mnt must have 2.0 GiB free, but has 0.5. Mend it: make room there"
        )
        # It had time to become ready.
        assert len(checks) > 1
