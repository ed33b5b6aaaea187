"""CODA-Prompt (Smith et al., CVPR 2023, arXiv 2211.13218): prompts as weighted components."""

from typing import Any, Literal

import torch
from torch import Tensor, nn

from trainables.backbones.adapted import AdaptedBackbone
from trainables.data.batches import TaskImages
from trainables.data.stream import Task
from trainables.heads import TaskHeads, current_task_loss
from trainables.method import MethodContext, ParamGroup, Scored
from trainables.methods.coda_prompt.config import CODAPromptConfig
from trainables.prompts.applied import as_prefix, component_weights
from trainables.prompts.components import new_rows, orthogonality_penalty
from trainables.prompts.learning import similarities


class CODAPrompt:
    """Σ_m α_m P_m before the keys and values of a block, with α_m = cos(q ⊙ A_m, K_m).

    Each task trains components of its own; those of earlier tasks are frozen and go on counting.
    `rows` are P, K and A of all tasks, each (blocks, components, …); `new` are the task's.
    """

    trains_backbone = False
    chosen_are: Literal["prompt", "task"] = "task"
    loss = staticmethod(current_task_loss)

    def __init__(self, config: CODAPromptConfig, context: MethodContext) -> None:
        self._config = config
        self._context = context
        width, device = context.model.width, context.device
        ahead = context.task_sizes if config.test_classes == "all" else ()
        self._heads = TaskHeads(width, device, context.generator, config.head_init, ahead=ahead)
        self.logits = self._heads.logits
        self._blocks = config.blocks_of(context.model.places.blocks)
        self._each = config.of_a_task(context.tasks)
        self._tasks = 0
        total = self._each * context.tasks
        widths = {"prompts": config.length * width, "keys": width, "attention": width}
        self.rows = {
            name: torch.zeros(len(self._blocks), total, dim, device=device)
            for name, dim in widths.items()
        }
        self.new: dict[str, nn.Parameter] = {}
        if config.orthogonal_start == "once":
            self._draw(0, total)

    def begin_task(
        self, model: AdaptedBackbone, task: Task, train: TaskImages
    ) -> tuple[list[ParamGroup], dict[str, float]]:
        """Trains the components of the task and its head."""
        first = task.index * self._each
        if self._config.orthogonal_start == "boundary":
            self._draw(first, self._each)
        own = slice(first, first + self._each)
        self.new = {name: nn.Parameter(rows[:, own].clone()) for name, rows in self.rows.items()}
        self._tasks = task.index + 1
        head = self._heads.open(task.index, len(task.classes))
        groups = [ParamGroup("prompt", list(self.new.values())), ParamGroup("head", head)]
        return groups, {"prompt/components": float(self._each)}

    def forward(
        self,
        model: AdaptedBackbone,
        images: Tensor,
        task: Task | None = None,
        queries: Tensor | None = None,
    ) -> Scored:
        """The network's feature with a prompt of its own for each image.

        The task that is chosen is the one whose components weigh most, over all blocks.
        """
        queries = model.query(images) if queries is None else queries
        used = {name: self._used(name) for name in self.rows}
        prefixes, weight = {}, queries.new_zeros(len(images), self._tasks)
        for at, block in enumerate(self._blocks):
            alpha = component_weights(queries, used["attention"][at], used["keys"][at])
            prompts = alpha @ used["prompts"][at]
            rows = prompts.view(len(images), 2, self._config.length // 2, -1)
            prefixes[block] = as_prefix(rows, model.heads)
            weight = weight + alpha.detach().abs().view(len(images), self._tasks, -1).sum(2)
        features, _ = model.prompted(images, prefixes)
        flags = torch.zeros_like(weight, dtype=torch.bool)
        flags.scatter_(1, weight.argmax(1, keepdim=True), True)
        penalty = queries.new_zeros(())
        if task is not None and self._config.orthogonality > 0:
            blocks = [rows for kind in used.values() for rows in kind]
            penalty = self._config.orthogonality * sum(map(orthogonality_penalty, blocks), penalty)
        return Scored(self.logits(features), features, penalty, flags)

    @torch.no_grad()
    def end_task(self, model: AdaptedBackbone, task: Task, train: TaskImages) -> dict[str, float]:
        """Keeps the task's components as they are; measures how alike all of them are."""
        for name, rows in self.rows.items():
            rows[:, task.index * self._each : self._tasks * self._each] = self.new[name]
        self.new = {}
        alike = {
            name: [similarities(rows) for rows in self._used(name)] for name in ("prompts", "keys")
        }
        count = len(self._blocks)
        held = float(sum(rows.nbytes for rows in self.rows.values()))
        return {
            "prompt/similarity": sum(mean for mean, _ in alike["prompts"]) / count,
            "prompt/largest_similarity": max(largest for _, largest in alike["prompts"]),
            "prompt/key_similarity": sum(mean for mean, _ in alike["keys"]) / count,
            "memory/prompt_bytes": held,
            "memory/branch_bytes": held,
            "memory/subspace_bytes": 0.0,
        }

    def exported(self, model: AdaptedBackbone) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The components of all tasks so far."""
        how = {"blocks": list(self._blocks), "rows": self._config.length // 2}
        return {name: self._used(name) for name in self.rows}, {"method": "coda_prompt", **how}

    def state_dict(self) -> dict[str, Any]:
        """Heads, the rows of all components and how many tasks have trained theirs."""
        return {"heads": self._heads.state_dict(), "rows": dict(self.rows), "tasks": self._tasks}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over what `state_dict` gave."""
        self._heads.load_state_dict(state["heads"])
        self._tasks = state["tasks"]
        for name, rows in self.rows.items():
            rows.copy_(state["rows"][name])

    def _used(self, name: str) -> Tensor:
        """Rows (blocks, components, …) of all tasks so far; those of earlier ones are constants."""
        rows = self.rows[name].detach()
        if not self.new:
            return rows[:, : self._tasks * self._each]
        return torch.cat([rows[:, : (self._tasks - 1) * self._each], self.new[name]], 1)

    def _draw(self, first: int, count: int) -> None:
        """Starts `count` components from number `first` on."""
        form, generator = self._config.gram_schmidt, self._context.generator
        for rows in self.rows.values():
            for block in rows:
                block[first : first + count] = new_rows(block[:first], count, form, generator)


create = CODAPrompt
