"""The documented quirks of the released code, by name, and what `corrected` changes of them.

What each field does is tested beside the code that reads it; here is which preset has which.
"""

import math
from typing import Any

import pytest

from trainables.config import TrialConfig, catalog

# Quirk → key, value of the paper's reading, value under `released`, whether it is a bug.
# fmt: off
QUIRKS: dict[str, dict[str, tuple[str, Any, Any, bool]]] = {
    "inflora": {
        "energies are squares of the second moment's singular values":
            ("method.energy", "sigma2", "sigma4", False),
        "the first task's memory stays below the threshold":
            ("method.first_task", "reach", "below", True),
        "half of the dimensions or more are labelled free without taking the complement":
            ("method.half_rule", "complement", "mislabel", True),
        "designed rows are divided by √3":
            ("method.down_scale", 1.0, 1 / math.sqrt(3), False),
        "second moments are taken of augmented images":
            ("method.moment_images", "plain", "augmented", False),
        "an exhausted layer trains in arbitrary directions":
            ("method.on_exhaustion", "clip", "released", True),
        "a head starts as torch's linear layers do":
            ("method.head_init", "small_normal", "linear", False),
    },
    "sd_lora": {
        "old pairs are divided by the product of their factors' norms":
            ("method.normaliser", "frobenius", "factor_norms", False),
        "one magnitude a task for all layers and slices":
            ("method.alpha_scope", "branch", "global", False),
        "all magnitudes start again at each task":
            ("method.alpha_reset", False, True, False),
        "a head starts uniform with deviation 1/√width":
            ("method.head_init", "small_normal", "uniform_fan", False),
    },
    "e2_lora": {
        "principal directions are those of a single augmented batch":
            ("method.pca_images", "all", "batch", False),
        "the final norm loses what pretraining made of it":
            ("method.norm_reset", False, True, True),
    },
    "loda": {
        "each task is added to the old ones before and after its merge":
            ("method.moment_passes", "after", "twice", True),
        "directions are weighted each by itself":
            ("method.merge", "least_squares", "diagonal", False),
    },
    "l2p": {
        "a batch votes on its prompts, also at test":
            ("method.vote", "image", "batch", True),
        "classes of future tasks compete, untrained":
            ("method.test_classes", "seen", "all", True),
        "prompts and keys start in [−1, 1]":
            ("method.init", "small", "symmetric", False),
        "prompts get the position of the class token":
            ("method.position", "none", "class_token", False),
        "keys are pulled less":
            ("method.pull", 0.5, 0.1, False),
        "a head starts small and not at zero":
            ("method.head_init", "zero", "small_normal", False),
    },
    "dual_prompt": {
        "keys and values are handed to the wrong images of a batch":
            ("method.reshape_leak", False, True, True),
        "a batch votes on its task at test":
            ("method.vote", "image", "batch", True),
        "untrained keys of future tasks compete":
            ("method.candidates", "seen", "pool", True),
        "classes of future tasks compete, untrained":
            ("method.test_classes", "seen", "all", True),
        "keys and values have all rows each":
            ("method.split", "halves", "each", False),
        "5 rows of all tasks, which cannot be halved":
            ("method.g_length", 6, 5, False),
        "5 rows of a task":
            ("method.e_length", 20, 5, False),
        "keys are pulled less":
            ("method.pull", 1.0, 0.1, False),
        "prompts and keys start in [−1, 1]":
            ("method.init", "small", "symmetric", False),
        "a head starts small and not at zero":
            ("method.head_init", "zero", "small_normal", False),
    },
    "coda_prompt": {
        "rows start orthogonal only as far as earlier ones are to each other":
            ("method.gram_schmidt", "exact", "released", True),
        "rows of a task are drawn when it begins":
            ("method.orthogonal_start", "once", "boundary", False),
        "nothing keeps rows orthonormal":
            ("method.orthogonality", 0.1, 0.0, False),
    },
    "coso": {
        "a memory gains nothing where one direction holds the share":
            ("method.taken", "reach", "below", True),
        "columns of the memory lean into each other":
            ("method.orthonormal", True, False, True),
        "Adam makes whole steps of rounding once the memory is full":
            ("method.on_exhaustion", "clip", "released", True),
    },
    "lora_drs": {
        "a shape lets the space of inputs project outputs":
            ("method.up_side", "free", "inputs", True),
    },
    "hide_prompt": {
        "keys and values are handed to the wrong images of a batch":
            ("method.reshape_leak", False, True, True),
        "classes of future tasks compete, untrained":
            ("method.test_classes", "seen", "all", True),
        "an epoch of an alignment uses a tenth of what it draws":
            ("method.align_steps", "whole", "released", True),
        "a smaller share of earlier prompts":
            ("method.mix", 0.1, 0.01, False),
        "ten centroids a class in place of one Gaussian":
            ("method.centroids", 1, 10, False),
    },
}
# fmt: on
CASES = [(family, quirk) for family, quirks in QUIRKS.items() for quirk in quirks]


def value(family: str, preset: str, key: str) -> Any:
    config = TrialConfig.from_params({"method.name": family, "preset": preset})
    return config.to_params()[key]


@pytest.mark.parametrize(("family", "quirk"), CASES)
def test_released_has_the_quirk_and_corrected_only_if_it_is_no_bug(family: str, quirk: str) -> None:
    key, paper, released, bug = QUIRKS[family][quirk]
    assert value(family, "paper", key) == paper
    assert value(family, "released", key) == pytest.approx(released)
    assert value(family, "corrected", key) == pytest.approx(paper if bug else released)


@pytest.mark.parametrize("family", QUIRKS)
def test_presets_differ_in_nothing_that_is_not_listed(family: str) -> None:
    declared = catalog.declaration(family).presets
    listed = {key for key, *_ in QUIRKS[family].values()}
    keys = {key for preset in declared.values() for key in preset}
    differing = {
        key for key in keys if len({value(family, preset, key) for preset in declared}) > 1
    }
    assert differing == listed
