import pytest

from trainables.config import TrialConfig, as_before, catalog, known_keys

GAUSSIAN = {"data.name": "gaussian", "data.image_size": 8}


@pytest.mark.parametrize("method", catalog.methods())
def test_flat_form_goes_there_and_back(method: str) -> None:
    config = TrialConfig.from_params({"method.name": method, "data.tasks": 50})
    params = config.to_params()
    assert TrialConfig.from_params(params).to_params() == params
    assert set(params) == set(known_keys(method))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {**GAUSSIAN, "backbone.name": "test_convnext", "backbone.pretrained": False,
             "backbone.adapt": ["q"]},
            "backbone.adapt must be null where no fused qkv",
        ),
        ({"backbone.layers": ["*.nope", "*.qkv"]}, r"'\*.nope' matches none of 17, such as"),
        ({"backbone.image_size": 40}, "backbone.image_size must be 32"),
        ({"backbone.image_size": 0}, r"backbone.image_size must be in \[1, 2048\]"),
        ({"method.rnak": 3}, "unknown key 'method.rnak'.*'method.rank'"),
        ({"method.rank": 0}, r"method.rank must be in \[1, 160\]"),
        ({"method.rank": 161}, r"method.rank must be in \[1, 160\], but got 161"),
        ({"method.rank": 2.5}, "method.rank must be of type int"),
        ({"method.rank": True}, "method.rank must be of type int"),
        ({"method.epsilon": 1.2}, "method.epsilon must be in"),
        ({"method.energy": "sigma3"}, "method.energy must be one of"),
        ({"data.name": "icon"}, r"data.name must be one of .*'icons'.*Did you mean 'icons'\?"),
        ({"data.tasks": 500}, r"data.tasks must be in \[1, 315\]"),
        ({"data.classes": 100, "data.tasks": 101}, r"data.tasks must be in \[1, 100\]"),
        ({"data.image_size": 64}, "data.image_size must be 32 for backbone.name compact_vit"),
        ({"data.validation_share": 1.0}, "data.validation_share must be in"),
        ({"data.train_per_class": 1}, "data.train_per_class must be at least 2"),
        ({"backbone.adapt": ["x"]}, "backbone.adapt must be a non-empty list"),
        ({"backbone.adapt": ["qkv", "q"]}, r"or \['qkv'\], or null, but got \['qkv', 'q'\]"),
        ({**GAUSSIAN, "backbone.name": "test_vit"}, "no pretrained weights"),
        ({"backbone.name": "vit_tinny_patch16_224"}, r"Close names: \['vit_tiny_patch16_224'"),
        ({"backbone.name": "levit_128"}, "pretrained weights of levit_128 fit, but at 32 pixels"),
        ({"backbone.normalise": "pretrained"}, "backbone.normalise must be .none. for .*compact"),
        ({"data.validation_share": 0.99}, "leaves no training image"),
        ({"optim.weight_decay": float("nan")}, "optim.weight_decay must be a finite number"),
        ({"optim.lr": 0}, "optim.lr must be a finite number above 0"),
        ({"optim.epochs": 0}, "optim.epochs must be at least 1"),
        ({"evaluation.during": 0}, "evaluation.during must be at least 1 or null, but got 0"),
        ({"seed": -1}, "seed must be in"),
    ],
)  # fmt: skip
def test_bad_values_name_the_key_and_what_is_allowed(
    changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        TrialConfig.from_params({"method.name": "inflora", **changes})


@pytest.mark.parametrize(
    ("method", "had"),
    [
        ("inflora_b5", {"align", "align_epochs", "align_lr", "align_samples"}),
        ("hide_prompt", {"align_epochs"}),
        ("sd_lora", set()),
    ],
)
def test_a_trial_is_known_by_the_keys_that_its_method_always_had(
    method: str, had: set[str]
) -> None:
    """Also where other methods got these later, and where a value is what these did before."""
    changes = {"method.align_epochs": 5} if had else {}
    before = as_before(TrialConfig.from_params({"method.name": method, **changes}).to_params())
    kept = {key.removeprefix("method.") for key in before if "align" in key or ".head" in key}
    # InfLoRA's norm, and rates of HiDe-Prompt's own, came with the methods.
    assert had <= kept and not kept & ({"head", "head_scale", "align", "align_ridge"} - had)
