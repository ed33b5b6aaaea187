from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from study.probe import measure
from trainables import catalog
from trainables.config import TrialConfig
from trainables.trainer import SequentialTrainer

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize("method", catalog.methods())
def test_a_device_trains_resumes_and_reports_its_memory(
    method: str, tiny: Callable[..., TrialConfig], tmp_path: Path
) -> None:
    trainer = SequentialTrainer(tiny(method), "cuda")
    first = trainer.train_task()
    assert first.metrics["memory/peak_device_bytes"] > 0
    trainer.save(tmp_path)
    resumed = SequentialTrainer(tiny(method), "cuda")
    resumed.restore(tmp_path)
    assert resumed.train_task().task == 2


def test_a_probe_measures_peaks_with_what_the_driver_takes(
    tiny: Callable[..., TrialConfig],
) -> None:
    found = measure(tiny("sd_lora").to_params(), cpu=1, gpu=True)
    assert found.device_total is not None and len(found.device_bytes) == 2
    # A CUDA context alone takes hundreds of megabytes.
    assert 1e8 < max(found.device_bytes) < found.device_total


def test_memory_that_runs_out_is_torch_s_own_error() -> None:
    """The one that the trainable answers with smaller micro-batches."""
    with pytest.raises(torch.OutOfMemoryError):
        torch.empty(2**45, device="cuda")
