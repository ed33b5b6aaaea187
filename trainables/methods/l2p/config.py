"""L2P (Wang et al., CVPR 2022, arXiv 2112.08654): tokens chosen by key from a pool of prompts."""

from dataclasses import dataclass
from typing import Any, Literal

from trainables.backbones.info import PromptPlaces


@dataclass(frozen=True)
class L2PConfig:
    """Fields of L2P; where paper and released code differ, PRESETS below say how."""

    name: str = "l2p"
    pool: int = 10
    """Prompts in the pool, whatever the number of tasks."""
    length: int = 5
    """Tokens of a prompt."""
    top_k: int = 5
    """Prompts that an image takes: those whose keys are nearest to its query, by cosine."""
    vote: Literal["image", "batch"] = "image"
    """Whether an image takes its own prompts or those that most images of its batch would, also
    at test, as released: scores then depend on the batch."""
    pull: float = 0.5
    """Weight of the pull of chosen keys towards the queries."""
    pull_form: Literal["own", "crossed"] = "own"
    """Pulls the keys of each image to its own query, or of every image to every query of the batch,
    summed and not averaged, as another group's code does."""
    init: Literal["small", "symmetric", "positive"] = "small"
    """Prompts and keys start uniform in [0, 0.01], [−1, 1] or [0, 1]."""
    position: Literal["none", "class_token"] = "none"
    """Whether prompts get the position embedding of the class token, where it has one."""
    test_classes: Literal["seen", "all"] = "seen"
    """Classes that compete at test: those seen, or those of future tasks too, untrained."""
    head_init: Literal["small_normal", "linear", "uniform_fan", "zero"] = "small_normal"
    """How a new task's head starts: small, as torch's linear layers, uniform with deviation
    1/√width, or at zero; see `start_head`."""

    def check(self, width: int) -> None:
        """Refuses values out of range."""
        for key in ("pool", "length"):
            if getattr(self, key) < 1:
                raise ValueError(f"method.{key} must be at least 1, but got {getattr(self, key)}.")
        if not 1 <= self.top_k <= self.pool:
            raise ValueError(
                f"method.top_k must be in [1, method.pool] = [1, {self.pool}], "
                f"but got {self.top_k}."
            )
        if not 0 <= self.pull < float("inf"):
            raise ValueError(
                f"method.pull must be a finite number of at least 0, but got {self.pull}."
            )

    def check_prompts(self, places: PromptPlaces, tasks: int) -> None:
        """Accepts every network with places for prompts, and any number of tasks."""

    @property
    def whole_batch(self) -> str | None:
        """What makes an image's part of the loss depend on its batch."""
        if self.vote == "batch":
            return "method.vote batch"
        return "method.pull_form crossed" if self.pull_form == "crossed" else None


# "paper": as others cite it, the authors' code where they are silent; its choice of prompts by how
# often each was taken before is in no released code. "released" is the torch code (LAMDA-PILOT's,
# which SD-LoRA's is built on), "corrected" the same without what lets an image's scores depend on
# others, or classes compete that were never seen. The authors' own code, in JAX, has length 10,
# top_k 4, small starts, heads at zero and no position of the class token. LAMDA-PILOT leaves
# classes not seen yet out at test, which the code that it was taken from does not: here neither
# does "released".
# fmt: off
_RELEASED: dict[str, Any] = {
    "method.pool": 10, "method.length": 5, "method.top_k": 5, "method.pull": 0.1,
    "method.vote": "batch", "method.init": "symmetric", "method.position": "class_token",
    "method.test_classes": "all", "method.head_init": "small_normal",
}
_MENDED = {"method.vote": "image", "method.test_classes": "seen"}
PRESETS: dict[str, dict[str, Any]] = {
    "paper": {
        "method.pool": 10, "method.length": 5, "method.top_k": 5, "method.pull": 0.5,
        "method.init": "small", "method.position": "none", "method.head_init": "zero", **_MENDED,
    },
    "released": _RELEASED,
    "corrected": _RELEASED | _MENDED,
}

# PILOT's recipes; rates are after its scaling by batch / 256.
_COMMON: dict[str, Any] = {
    "seeds": (1993, 1994, 1995), "data.class_order": "published", "data.test_view": "bicubic",
    "data.augmentation": "random_resized_crop", "data.crop_scale": 0.05,
    "optim.optimizer": "adam", "optim.lr": 0.001875, "optim.prompt_lr": None,
    "optim.head_lr": None, "optim.weight_decay": 0.0, "optim.schedule": "constant",
}
RECIPES: dict[tuple[str, int | None], dict[str, Any]] = {
    ("cifar100", None): _COMMON | {"optim.epochs": 5, "optim.batch_size": 16},
    ("imagenet_r", None): _COMMON | {"optim.epochs": 10, "optim.batch_size": 32},
}
# fmt: on

ADAPTS: tuple[str, ...] = ()
