"""CODA-Prompt (Smith et al., CVPR 2023, arXiv 2211.13218): prompts as weighted components."""

from dataclasses import dataclass
from typing import Any, Literal

from trainables.backbones.info import PromptPlaces

MOST_BLOCKS = 5


@dataclass(frozen=True)
class CODAPromptConfig:
    """Fields of CODA-Prompt; where paper and released code differ, PRESETS below say how."""

    name: str = "coda_prompt"
    components: int = 100
    """Components of all tasks, or of each."""
    components_per: Literal["stream", "task"] = "stream"
    """Whether the tasks share the components out, or have so many each."""
    length: int = 8
    """Rows of a component, the first half for keys and the other for values."""
    blocks: tuple[int, ...] | None = None
    """Blocks that take prompts (None: the first five, or as many as there are)."""
    orthogonality: float = 0.1
    """Weight of the penalty on prompts, keys and attention that are not orthonormal."""
    orthogonal_start: Literal["once", "boundary"] = "boundary"
    """Draws the rows of all tasks at the start, or those of each when it begins, as released."""
    gram_schmidt: Literal["exact", "released"] = "exact"
    """Whether rows start orthogonal to all earlier ones, or only as far as these are to each
    other; see `new_rows`."""
    test_classes: Literal["seen", "all"] = "seen"
    """Classes that compete at test: those seen, or those of future tasks too, untrained."""
    head_init: Literal["small_normal", "linear", "uniform_fan", "zero"] = "small_normal"
    """How a new task's head starts: small, as torch's linear layers, uniform with deviation
    1/√width, or at zero; see `start_head`."""

    def check(self, width: int) -> None:
        """Refuses values out of range."""
        if self.components < 1:
            raise ValueError(f"method.components must be at least 1, but got {self.components}.")
        if self.length < 2 or self.length % 2:
            raise ValueError(
                f"method.length must be even and at least 2, for keys and values, "
                f"but got {self.length}."
            )
        if not 0 <= self.orthogonality < float("inf"):
            raise ValueError(
                f"method.orthogonality must be a finite number of at least 0, "
                f"but got {self.orthogonality}."
            )

    def check_prompts(self, places: PromptPlaces, tasks: int) -> None:
        """Refuses blocks that there are not, and tasks without a component."""
        places.check_blocks("blocks", self.blocks_of(places.blocks))
        if self.of_a_task(tasks) < 1:
            raise ValueError(
                f"method.components must be at least data.tasks = {tasks}, which share them out, "
                f"but got {self.components}; method.components_per task gives each its own."
            )

    def blocks_of(self, depth: int) -> tuple[int, ...]:
        """Blocks with prompts in a network of `depth` blocks."""
        return tuple(range(min(MOST_BLOCKS, depth))) if self.blocks is None else self.blocks

    def of_a_task(self, tasks: int) -> int:
        """Components of each of `tasks` tasks; what is left over is of none."""
        return self.components if self.components_per == "task" else self.components // tasks

    @property
    def whole_batch(self) -> str | None:
        """Nothing: the penalty is not of images."""
        return None


# "paper" is not read here, but for what others cite. "corrected" differs from "released" in what
# released code calls an orthogonal start, which is not one from the second task on. The last batch
# of an epoch is dropped there where it is not full, so that a task of fewer than 128 images trains
# on nothing: no preset has that.
# fmt: off
_RELEASED: dict[str, Any] = {
    "method.components": 100, "method.components_per": "stream", "method.length": 8,
    "method.orthogonality": 0.0, "method.orthogonal_start": "boundary",
    "method.gram_schmidt": "released", "method.test_classes": "seen", "method.head_init": "linear",
}
PRESETS: dict[str, dict[str, Any]] = {
    "paper": _RELEASED | {
        "method.orthogonality": 0.1, "method.orthogonal_start": "once",
        "method.gram_schmidt": "exact",
    },
    "released": _RELEASED,
    "corrected": _RELEASED | {"method.gram_schmidt": "exact"},
}

# The seeds are those of SD-LoRA's table, for a row beside it.
_COMMON: dict[str, Any] = {
    "data.class_order": "published", "data.augmentation": "random_resized_crop",
    "data.crop_scale": 0.08, "optim.optimizer": "adam", "optim.lr": 1e-3, "optim.prompt_lr": None,
    "optim.head_lr": None, "optim.weight_decay": 0.0, "optim.schedule": "released_cosine_once",
    "optim.batch_size": 128, "seeds": (1993, 1994, 1995),
}
RECIPES: dict[tuple[str, int | None], dict[str, Any]] = {
    ("cifar100", None): _COMMON | {"optim.epochs": 20},
    ("imagenet_r", None): _COMMON | {"optim.epochs": 50},
    ("domainnet", None): _COMMON | {"optim.epochs": 5},
}
# fmt: on

ADAPTS: tuple[str, ...] = ()
