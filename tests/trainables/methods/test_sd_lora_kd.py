import pytest

from tests.trainables.trials import tiny
from trainables.config import TrialConfig
from trainables.trainer import SequentialTrainer


def kept(trainer: SequentialTrainer) -> list[list[int]]:
    """Tasks whose pairs each slice holds."""
    return [
        layer.stack_of(part).task.tolist()
        for layer in trainer._model.layers.values()
        for part in layer.slices
    ]


@pytest.mark.parametrize("scope", ["global", "layer", "branch"])
def test_it_keeps_what_is_new_and_reports_what_it_saved(scope: str) -> None:
    changes = {"method.alpha_scope": scope, "method.rank": 2, "data.tasks": 6}
    plain = SequentialTrainer(tiny("sd_lora", changes))
    loose = SequentialTrainer(tiny("sd_lora_kd", {**changes, "method.tau": 0.9999}))
    for task in range(1, 7):
        full, few = plain.train_task().metrics, loose.train_task().metrics
        held = kept(loose)
        assert full["alpha/pairs_kept"] == task
        assert few["alpha/pairs_kept"] == sum(map(len, held)) / len(held)
        reported = {key for key in few if key.startswith("alpha/task_")}
        assert reported == {f"alpha/task_{t:02d}" for tasks in held for t in tasks}
        for number in {t for tasks in held for t in tasks}:
            alphas = [
                float(stack.alpha[stack.task == number].detach())
                for layer in loose._model.layers.values()
                for stack in (layer.stack_of(part) for part in layer.slices)
                if number in stack.task.tolist()
            ]
            assert few[f"alpha/task_{number:02d}"] == pytest.approx(sum(alphas) / len(alphas))
    assert all(tasks[0] == 1 for tasks in held)
    assert 1 <= few["alpha/pairs_kept"] < 6
    assert few["memory/branch_bytes"] < full["memory/branch_bytes"]


def test_a_pair_of_zeros_is_dropped() -> None:
    """Where only the head is trained, `up` stays zero: there is nothing to keep."""
    trainer = SequentialTrainer(tiny("sd_lora_kd", {"data.tasks": 3, "optim.optimizer": "sgd"}))
    trainer.train_task()
    begin = trainer._method.begin_task

    def begin_frozen(*args: object) -> object:
        groups, recorded = begin(*args)  # type: ignore[arg-type]
        return [group for group in groups if group.role == "head"], recorded

    trainer._method.begin_task = begin_frozen  # type: ignore[method-assign, assignment]
    assert trainer.train_task().metrics["alpha/pairs_kept"] == 1


def test_the_released_preset_cannot_set_folded_magnitudes_back() -> None:
    config = TrialConfig.from_params({"method.name": "sd_lora_kd", "preset": "released"})
    params = config.to_params()
    assert (params["method.alpha_reset"], params["method.tau"]) == (False, 9e-4)
    assert params["method.normaliser"] == "factor_norms"
    with pytest.raises(ValueError, match="alpha_reset must be false"):
        TrialConfig.from_params({"method.name": "sd_lora_kd", "method.alpha_reset": True})
