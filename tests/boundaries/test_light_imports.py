"""What a command or a machine may do without: packages that take seconds, or are not installed."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.study.small_study import FIXED

pytestmark = pytest.mark.process

ROOT = Path(__file__).parents[2]
LEDGER = ROOT / "tests/study/ledger/data/version1.jsonl"
PARAMS = {**FIXED, "method.name": "inflora", "method.rank": 2, "data.tasks": 2}
HIDE = """
import sys
class Hidden:
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in {packages}:
            raise ModuleNotFoundError(f"{{name}} is not to be imported", name=name)
sys.meta_path.insert(0, Hidden)
"""


def without(packages: tuple[str, ...], code: str) -> None:
    """Runs code in a process in which none of the packages can be imported."""
    hidden = HIDE.format(packages=packages)
    command = [sys.executable, "-c", hidden + code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


CONFIG = f"from trainables.config import TrialConfig\nTrialConfig.from_params({PARAMS!r})"
TRAINER = f"""
from trainables.trainer import SequentialTrainer
from trainables.config import TrialConfig
trainer = SequentialTrainer(TrialConfig.from_params({PARAMS!r}))
assert trainer.train_task().task == 1
"""
HELP = """
from study import run
try: run.main(['--help'])
except SystemExit as end: assert end.code == 0
"""
DRIVER = "import study.commands.run_study, study.commands.once, study.tracking.writer"
VALIDATE = "from study import run\nsys.exit(run.main([{!r}, '--validate']))"
LIGHT = ("torch", "timm", "ray", "mlflow", "matplotlib")


@pytest.mark.parametrize(
    ("packages", "code"),
    [
        pytest.param(("torch", "optuna"), CONFIG, id="config"),
        pytest.param(("ray", "optuna", "mlflow"), TRAINER, id="trainer"),
        pytest.param(LIGHT, VALIDATE.format("quickstart"), id="quickstart"),
        pytest.param(LIGHT, VALIDATE.format("paper_cifar100_inflora"), id="paper"),
        pytest.param(("torch", "mlflow", "matplotlib"), DRIVER, id="driver"),
        pytest.param((*LIGHT, "optuna", "yaml", "rich", "pydantic"), HELP, id="help"),
    ],
)
def test_it_runs_without(packages: tuple[str, ...], code: str) -> None:
    without(packages, code)


def test_a_report_is_written_without_torch_ray_and_mlflow(tmp_path: Path) -> None:
    shutil.copy(LEDGER, tmp_path / "ledger.jsonl")
    without(
        ("torch", "timm", "ray", "mlflow"),
        f"from study import run\nsys.exit(run.main(['--report', {str(tmp_path)!r}]))",
    )
    assert (tmp_path / "report/report.html").is_file()
