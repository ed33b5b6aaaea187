from collections.abc import Callable
from pathlib import Path

import pytest
import torch

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
