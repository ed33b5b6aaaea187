"""DualPrompt (Wang et al., ECCV 2022, arXiv 2204.04799): prompts of all tasks and of each task."""

from typing import Any, Literal

import torch
from torch import Tensor, nn

from trainables.backbones.adapted import AdaptedBackbone
from trainables.data.batches import TaskImages
from trainables.data.stream import Task
from trainables.heads import TaskHeads, current_task_loss
from trainables.method import MethodContext, ParamGroup, Scored
from trainables.methods.dual_prompt.config import DualPromptConfig
from trainables.prompts.applied import Prefix, as_prefix, cosine, nearest
from trainables.prompts.learning import chosen_of, gathered, leaked, similarities, start, voted


class DualPrompt:
    """Keys and values before those of some blocks: `general` ones in the first, a task's in others.

    In training the task is known, and its key is pulled to the queries; at test the nearest key
    tells it. `own` and `keys` are by task.
    """

    trains_backbone = False
    chosen_are: Literal["prompt", "task"] = "task"
    loss = staticmethod(current_task_loss)

    def __init__(self, config: DualPromptConfig, context: MethodContext) -> None:
        self._config = config
        self._context = context
        ahead = context.task_sizes if config.test_classes == "all" else ()
        self._heads = TaskHeads(
            context.model.width, context.device, context.generator, config.head_init, ahead=ahead
        )
        self.logits = self._heads.logits
        blocks = context.model.places.blocks
        self._g_blocks, self._e_blocks = config.blocks(blocks)
        self.general = self._started(len(self._g_blocks), 2, config.rows(config.g_length))
        self.own: list[nn.Parameter] = []
        self.keys: list[nn.Parameter] = []
        if config.candidates == "pool":
            # Untrained ones are there from the start, since they may be chosen.
            for _ in range(config.pool or context.tasks):
                self._add()

    def begin_task(
        self, model: AdaptedBackbone, task: Task, train: TaskImages
    ) -> tuple[list[ParamGroup], dict[str, float]]:
        """Trains the prompt of all tasks, the task's own with its key, and its head."""
        if task.index == len(self.own):
            self._add()
        prompt, key = self.own[task.index], self.keys[task.index]
        if self._config.carry and task.index:
            prompt.data.copy_(self.own[task.index - 1])
        head = self._heads.open(task.index, len(task.classes))
        return [ParamGroup("prompt", [self.general, prompt, key]), ParamGroup("head", head)], {}

    def forward(
        self,
        model: AdaptedBackbone,
        images: Tensor,
        task: Task | None = None,
        queries: Tensor | None = None,
    ) -> Scored:
        """The network's feature with the prompts of all tasks and of one task."""
        penalty = images.new_zeros(())
        if task is None:
            queries = model.query(images) if queries is None else queries
            ids = nearest(cosine(queries, torch.stack(list(self.keys))), 1)
            if self._config.vote == "batch":
                ids = voted(ids, len(self.keys))
            own = gathered(self.own, ids[:, 0])
        else:
            ids = torch.full((len(images), 1), task.index, device=images.device)
            own = self.own[task.index].expand(len(images), *self.own[task.index].shape)
            if self._config.pull > 0:
                queries = model.query(images) if queries is None else queries
                key = self.keys[task.index]
                penalty = -self._config.pull * cosine(queries, key[None]).mean()
        features, _ = model.prompted(images, self._prefixes(own, model.heads))
        flags = chosen_of(ids, len(self.keys))
        return Scored(self.logits(features), features, penalty, flags)

    def end_task(self, model: AdaptedBackbone, task: Task, train: TaskImages) -> dict[str, float]:
        """Consolidates nothing; measures how alike the prompts of tasks are."""
        seen = task.index + 1
        mean, largest = similarities(torch.stack(tuple(self.own[:seen])))
        held = float(sum(tensor.nbytes for tensor in (self.general, *self.own, *self.keys)))
        by_batch = (
            {"prompt/scores_by_batch": 1.0}
            if self._config.vote == "batch" or self._config.reshape_leak
            else {}
        )
        return by_batch | {
            "prompt/similarity": mean,
            "prompt/largest_similarity": largest,
            "prompt/key_similarity": similarities(torch.stack(tuple(self.keys[:seen])))[0],
            "memory/prompt_bytes": held,
            "memory/branch_bytes": held,
            "memory/subspace_bytes": 0.0,
        }

    def exported(self, model: AdaptedBackbone) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Prompts of all tasks and of each, and keys."""
        if self._config.vote == "batch" or self._config.reshape_leak:
            raise ValueError(
                f"method.vote must be image and method.reshape_leak false for exported weights, "
                f"but they are {self._config.vote} and {self._config.reshape_leak}."
            )
        own, keys = torch.stack(list(self.own)), torch.stack(list(self.keys))
        blocks = {"general_blocks": list(self._g_blocks), "blocks": list(self._e_blocks)}
        tensors = {"general": self.general, "own": own, "keys": keys}
        return tensors, {"method": "dual_prompt", **blocks}

    def state_dict(self) -> dict[str, Any]:
        """Heads, prompts and keys."""
        return {
            "heads": self._heads.state_dict(),
            "general": self.general.detach(),
            "own": [prompt.detach() for prompt in self.own],
            "keys": [key.detach() for key in self.keys],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over what `state_dict` gave."""
        self._heads.load_state_dict(state["heads"])
        self.general.data.copy_(state["general"])
        self.own, self.keys = (
            [self._parameter(tensor) for tensor in state[name]] for name in ("own", "keys")
        )

    def _prefixes(self, own: Tensor, heads: int) -> dict[int, Prefix]:
        """By block, the keys and values of images with the prompts `own` (n, blocks, 2, …)."""
        if self._config.reshape_leak:
            own = leaked(own)
        general = self.general.expand(len(own), *self.general.shape)
        return {
            block: as_prefix(rows[:, at], heads)
            for blocks, rows in ((self._g_blocks, general), (self._e_blocks, own))
            for at, block in enumerate(blocks)
        }

    def _add(self) -> None:
        """A prompt and a key for another task, as they start."""
        self.own.append(
            self._started(len(self._e_blocks), 2, self._config.rows(self._config.e_length))
        )
        self.keys.append(self._started())

    def _started(self, *shape: int) -> nn.Parameter:
        """Draws rows of the network's width."""
        drawn = start(
            (*shape, self._context.model.width), self._config.init, self._context.generator
        )
        return self._parameter(drawn)

    def _parameter(self, tensor: Tensor) -> nn.Parameter:
        return nn.Parameter(tensor.to(self._context.device), requires_grad=False)


create = DualPrompt
