"""DualPrompt (Wang et al., ECCV 2022, arXiv 2204.04799): prompts of all tasks and of each task."""

from dataclasses import dataclass
from typing import Any, Literal

from trainables.backbones.info import PromptPlaces


@dataclass(frozen=True)
class DualPromptConfig:
    """Fields of DualPrompt; where paper and released code differ, PRESETS below say how."""

    name: str = "dual_prompt"
    g_length: int = 5
    """Rows of the prompt of all tasks, in each of its blocks."""
    e_length: int = 20
    """Rows of the prompt of a task, in each of its blocks."""
    split: Literal["each", "halves"] = "each"
    """Whether keys and values have so many rows each, or half of them."""
    g_blocks: tuple[int, ...] | None = None
    """Blocks that take the prompt of all tasks (None: the first two, but at most half)."""
    e_blocks: tuple[int, ...] | None = None
    """Blocks that take the prompt of a task (None: the three after the first two, or as many as
    there are)."""
    pool: int | None = None
    """Prompts of tasks and their keys (None: as many as tasks)."""
    candidates: Literal["seen", "pool"] = "seen"
    """Whose keys an image is compared with at test: those of tasks seen, or untrained ones too."""
    vote: Literal["image", "batch"] = "image"
    """Whether an image takes the task that it is nearest to, or that most of its batch are, as
    released: scores then depend on the batch."""
    carry: bool = True
    """Starts the prompt of a task where that of the last one ended."""
    pull: float = 1.0
    """Weight of the pull of a task's key towards its queries."""
    init: Literal["small", "symmetric", "positive"] = "small"
    """Prompts and keys start uniform in [0, 0.01], [−1, 1] or [0, 1]."""
    reshape_leak: bool = False
    """Hands keys and values out to the wrong images of a batch, as released torch code does; see
    `leaked`."""
    test_classes: Literal["seen", "all"] = "seen"
    """Classes that compete at test: those seen, or those of future tasks too, untrained."""
    head_init: Literal["small_normal", "linear", "uniform_fan", "zero"] = "small_normal"
    """How a new task's head starts: small, as torch's linear layers, uniform with deviation
    1/√width, or at zero; see `start_head`."""

    def check(self, width: int) -> None:
        """Refuses values out of range."""
        for key in ("g_length", "e_length"):
            length = getattr(self, key)
            if length < 1:
                raise ValueError(f"method.{key} must be at least 1, but got {length}.")
            if self.split == "halves" and length % 2:
                raise ValueError(
                    f"method.{key} must be even with method.split halves, but got {length}."
                )
        if not 0 <= self.pull < float("inf"):
            raise ValueError(
                f"method.pull must be a finite number of at least 0, but got {self.pull}."
            )

    def check_prompts(self, places: PromptPlaces, tasks: int) -> None:
        """Refuses blocks that there are not, and a pool of fewer prompts than tasks."""
        g, e = self.blocks(places.blocks)
        places.check_blocks("g_blocks", g)
        places.check_blocks("e_blocks", e)
        if set(g) & set(e):
            raise ValueError(
                f"method.e_blocks must be others than method.g_blocks {list(g)}, but got {list(e)}."
            )
        if self.pool is not None and self.pool < tasks:
            raise ValueError(
                f"method.pool must be at least data.tasks = {tasks} or null, since each task has a "
                f"prompt, but got {self.pool}."
            )

    def blocks(self, depth: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Blocks of the prompts of all tasks and of each task, in a network of `depth` blocks."""
        first = min(2, depth // 2)
        general = tuple(range(first)) if self.g_blocks is None else self.g_blocks
        own = tuple(range(first, min(first + 3, depth)))
        return general, own if self.e_blocks is None else self.e_blocks

    def rows(self, length: int) -> int:
        """Rows of keys, and of values, of a prompt of `length`."""
        return length // 2 if self.split == "halves" else length

    @property
    def whole_batch(self) -> str | None:
        """What makes an image's part of the loss depend on its batch."""
        return "method.reshape_leak true" if self.reshape_leak else None


# "paper": as others cite it, the authors' code (in JAX, where nothing leaks) where they are silent;
# 5 rows cannot be halved, 6 are in another group's code that does.
# "released" is the torch code (LAMDA-PILOT's, which SD-LoRA's is built on), "corrected" the same
# without what lets an image's scores depend on others, or tasks and classes compete that were never
# seen. That code falls back to choosing by key in training where the pool has fewer prompts than
# tasks; here such a pool is refused. LAMDA-PILOT leaves classes not seen yet out at test, which the
# code that it was taken from does not: here neither does "released".
# fmt: off
_RELEASED: dict[str, Any] = {
    "method.g_length": 5, "method.e_length": 5, "method.split": "each", "method.pull": 0.1,
    "method.vote": "batch", "method.candidates": "pool", "method.init": "symmetric",
    "method.reshape_leak": True, "method.test_classes": "all", "method.carry": True,
    "method.head_init": "small_normal",
}
_MENDED = {
    "method.vote": "image", "method.candidates": "seen", "method.reshape_leak": False,
    "method.test_classes": "seen",
}
PRESETS: dict[str, dict[str, Any]] = {
    "paper": {
        "method.g_length": 6, "method.e_length": 20, "method.split": "halves", "method.pull": 1.0,
        "method.init": "small", "method.carry": True, "method.head_init": "zero", **_MENDED,
    },
    "released": _RELEASED,
    "corrected": _RELEASED | _MENDED,
}

# PILOT's recipes.
_COMMON: dict[str, Any] = {
    "seeds": (1993, 1994, 1995), "data.class_order": "published", "data.test_view": "bicubic",
    "data.augmentation": "random_resized_crop", "data.crop_scale": 0.05,
    "optim.optimizer": "adam", "optim.lr": 1e-3, "optim.prompt_lr": None, "optim.head_lr": None,
    "optim.weight_decay": 0.0, "optim.schedule": "constant", "optim.batch_size": 24,
}
RECIPES: dict[tuple[str, int | None], dict[str, Any]] = {
    ("cifar100", None): _COMMON | {"optim.epochs": 5},
    ("imagenet_r", None): _COMMON | {"optim.epochs": 10},
}
# fmt: on

ADAPTS: tuple[str, ...] = ()
