"""L2P (Wang et al., CVPR 2022, arXiv 2112.08654): tokens chosen by key from a pool of prompts."""

from typing import Any, Literal

from torch import Tensor, nn

from trainables.backbones.adapted import AdaptedBackbone
from trainables.data.batches import TaskImages
from trainables.data.stream import Task
from trainables.heads import TaskHeads, current_task_loss
from trainables.method import MethodContext, ParamGroup, Scored
from trainables.methods.l2p.config import L2PConfig
from trainables.prompts.applied import cosine, nearest
from trainables.prompts.learning import chosen_of, crossed_push, pull, similarities, start, voted


class L2P:
    """Puts the prompts nearest to an image's query before block 0; their outputs are its features.

    Pool and keys go on through all tasks; a prompt that no image takes does not move.
    """

    trains_backbone = False
    chosen_are: Literal["prompt", "task"] = "prompt"
    loss = staticmethod(current_task_loss)

    def __init__(self, config: L2PConfig, context: MethodContext) -> None:
        self._config = config
        width, device, generator = context.model.width, context.device, context.generator
        ahead = context.task_sizes if config.test_classes == "all" else ()
        self._heads = TaskHeads(width, device, generator, config.head_init, ahead=ahead)
        self.logits = self._heads.logits
        self.prompts, self.keys = (
            nn.Parameter(start(shape, config.init, generator).to(device), requires_grad=False)
            for shape in ((config.pool, config.length, width), (config.pool, width))
        )

    def begin_task(
        self, model: AdaptedBackbone, task: Task, train: TaskImages
    ) -> tuple[list[ParamGroup], dict[str, float]]:
        """Trains the pool, its keys and the task's head."""
        head = self._heads.open(task.index, len(task.classes))
        return [ParamGroup("prompt", [self.prompts, self.keys]), ParamGroup("head", head)], {}

    def forward(
        self,
        model: AdaptedBackbone,
        images: Tensor,
        task: Task | None = None,
        queries: Tensor | None = None,
    ) -> Scored:
        """The mean of the chosen prompts' outputs, after the last norm, goes to the heads."""
        queries = model.query(images) if queries is None else queries
        similarity = cosine(queries, self.keys)
        ids = nearest(similarity, self._config.top_k)
        if self._config.vote == "batch":
            ids = voted(ids, len(self.keys))
        tokens = self.prompts.index_select(0, ids.flatten())
        if self._config.position == "class_token" and model.class_position is not None:
            tokens = tokens + model.class_position
        _, outputs = model.prompted(images, {}, tokens.view(len(images), -1, tokens.shape[-1]))
        assert outputs is not None  # there were tokens
        features = outputs.mean(1)
        flags = chosen_of(ids, len(self.keys))
        return Scored(self.logits(features), features, self._penalty(similarity, ids), flags)

    def end_task(self, model: AdaptedBackbone, task: Task, train: TaskImages) -> dict[str, float]:
        """Consolidates nothing; measures how alike the prompts are."""
        mean, largest = similarities(self.prompts)
        held = float(self.prompts.nbytes + self.keys.nbytes)
        by_batch = {"prompt/scores_by_batch": 1.0} if self._config.vote == "batch" else {}
        return by_batch | {
            "prompt/similarity": mean,
            "prompt/largest_similarity": largest,
            "prompt/key_similarity": similarities(self.keys)[0],
            "memory/prompt_bytes": held,
            "memory/branch_bytes": held,
            "memory/subspace_bytes": 0.0,
        }

    def exported(self, model: AdaptedBackbone) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Prompts, keys and the position that prompts get."""
        if self._config.vote == "batch":
            raise ValueError("method.vote must be image for exported weights, but it is batch.")
        position = model.class_position if self._config.position == "class_token" else None
        if position is None:
            position = self.keys.new_zeros(self.keys.shape[1])
        tensors = {"prompts": self.prompts, "keys": self.keys, "position": position}
        return tensors, {"method": "l2p", "top_k": self._config.top_k}

    def state_dict(self) -> dict[str, Any]:
        """Heads, prompts and keys."""
        return {
            "heads": self._heads.state_dict(),
            "prompts": self.prompts.detach(),
            "keys": self.keys.detach(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over what `state_dict` gave."""
        self._heads.load_state_dict(state["heads"])
        self.prompts.data.copy_(state["prompts"])
        self.keys.data.copy_(state["keys"])

    def _penalty(self, similarity: Tensor, ids: Tensor) -> Tensor:
        if self._config.pull_form == "crossed":
            return self._config.pull * crossed_push(similarity, ids)
        return -self._config.pull * pull(similarity, ids)


create = L2P
