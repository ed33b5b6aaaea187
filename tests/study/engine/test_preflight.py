"""What the driver makes of the reports of nodes."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from study.engine import node_check, preflight
from study.engine.node_check import Expected, NodeCheckError, NodeReport, Problem, checked
from study.errors import MistakeError
from study.ledger import StudyFolder
from tests.study.fake_trainable import FakeTrainable
from tests.study.small_study import small_plan
from trainables.config import DataConfig

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
    assert capsys.readouterr().out.endswith(
        "  a (10.0.0.1, 12): nothing\n  b (10.0.0.2, 34): disk\n"
        "b (10.0.0.2, 34), disk: /mnt must have 2.0 GiB free, but has 0.5.\n"
        "  mend it: make room there\n"
    )


def test_what_a_node_writes_must_come_to_the_driver(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_check, "STORAGE_SECONDS", 0.0)
    expected = expected_in(tmp_path)
    report = preflight._read_back(expected, NodeReport("a", ()), "node1")
    assert [problem.text for problem in report.problems] == [
        f"what it writes to {tmp_path} does not come to the machine that drives the study."
    ]
    expected.folder.mkdir(parents=True)
    (expected.folder / "node1").write_text("abc")
    assert preflight._read_back(expected, NodeReport("a", ()), "node1").problems == ()


def test_data_must_be_the_same_on_all_nodes() -> None:
    config = DataConfig(name="cifar100")
    splits = {"a": "1" * 64, "b": "2" * 64, "c": "1" * 64}
    reports = preflight._agreed(
        {key: NodeReport(key, (), {config: split}) for key, split in splits.items()}
    )
    assert [key for key, report in reports.items() if report.problems] == ["b"]
    assert reports["b"].problems[0].text == (
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
    checks = [preflight._expected_of(expected, node, 2, gpus) for node in (head, worker)]
    assert [(check.trials, check.gpus) for check in checks] == [(False, 0), (True, 4)]


def test_a_check_to_leave_out_must_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LRCS_SKIP_CHECKS", "gpu, disk")
    assert preflight._expected(small_plan(), StudyFolder(tmp_path)).skip == {"gpu", "disk"}
    monkeypatch.setenv("LRCS_SKIP_CHECKS", "gpus")
    with pytest.raises(MistakeError, match=r"in LRCS_SKIP_CHECKS 'gpus'\. Did you mean 'gpu'\?"):
        preflight._expected(small_plan(), StudyFolder(tmp_path))


@pytest.mark.parametrize("node", ["good", "bad"])
def test_a_node_that_joins_later_is_checked_by_its_first_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, node: str
) -> None:
    checks: list[str] = []

    def check(expected: Expected, node: str) -> NodeReport:
        checks.append(node)
        return NodeReport(node, (WRONG,) if node == "bad" else ())

    monkeypatch.setattr(node_check, "check", check)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    context = SimpleNamespace(get_node_id=lambda: node)
    monkeypatch.setattr(node_check, "get_runtime_context", lambda: context)
    monkeypatch.setattr(node_check, "PATIENCE_SECONDS", 0.05)
    monkeypatch.setattr(node_check, "PAUSE_SECONDS", 0.02)
    trial = checked(FakeTrainable, expected_in(tmp_path))
    assert trial.__name__ == "FakeTrainable"
    if node == "good":
        for _ in range(2):
            assert trial({"optim.momentum": 0.0}).task == 0
        assert checks == ["good"]
    else:
        with pytest.raises(NodeCheckError) as error:
            trial({"optim.momentum": 0.0})
        assert str(error.value) == (
            "node bad: disk: /mnt must have 2.0 GiB free, but has 0.5. Mend it: make room there"
        )
        # It had time to become ready.
        assert len(checks) > 1
