"""HiDe-Prompt (Wang et al., NeurIPS 2023, arXiv 2310.07234): the task told, then its prompt."""

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainables.backbones.adapted import AdaptedBackbone
from trainables.data.batches import TaskImages
from trainables.data.stream import Task
from trainables.frozen import plain_queries
from trainables.heads import TaskHeads, current_task_loss
from trainables.method import MethodContext, ParamGroup, Scored, Stage
from trainables.methods.hide_prompt.config import HiDePromptConfig
from trainables.methods.hide_prompt.identity import TaskIdentity
from trainables.methods.hide_prompt.statistics import ClassCentroids, align
from trainables.prompts.applied import as_prefix
from trainables.prompts.learning import chosen_of, gathered, leaked, similarities, start


def mixed(prompt: Tensor, earlier: Tensor, share: float) -> Tensor:
    """`prompt` with a `share` of the mean of `earlier` ones (t, …), which learns nothing."""
    return (1 - share) * prompt + share * earlier.detach().mean(0)


def contrastive_loss(rows: Tensor, temperature: float) -> Tensor:
    """Mean over rows (n, width) of −log softmax of their inner products over `temperature`.

    Each is to be nearest to itself. Rows as long as features of transformers are so already: loss
    and gradient are then 0.
    """
    products = rows @ rows.T / temperature
    over = products - products.diagonal()[:, None]
    own = torch.eye(len(rows), dtype=torch.bool, device=rows.device)
    # log Σ_j exp(over_j) without the row itself, whose part is 0.
    return functional.softplus(over.masked_fill(own, float("-inf")).logsumexp(1)).mean()


class HiDePrompt:
    """A prompt a task before keys and values, chosen by what `identity` tells of the query.

    Trained in two stages a task: identity, then prompt and head. After each, the classifier is
    trained again on features drawn from what is kept of every class.
    """

    trains_backbone = False
    chosen_are: Literal["prompt", "task"] = "task"
    loss = staticmethod(current_task_loss)

    def __init__(self, config: HiDePromptConfig, context: MethodContext) -> None:
        self._config = config
        self._context = context
        self.more_epochs = config.identity_epochs
        ahead = context.task_sizes if config.test_classes == "all" else ()
        self._heads = TaskHeads(
            context.model.width, context.device, context.generator, config.head_init, ahead=ahead
        )
        self.logits = self._heads.logits
        self.identity = TaskIdentity(config, context)
        self._blocks = config.blocks_of(context.model.places.blocks)
        self.prompts: list[nn.Parameter] = []
        self._kept = ClassCentroids(config.centroids, context.generator)
        # What the task that is trained needs of earlier ones.
        self._earlier: Tensor | None = None
        self._old: Tensor | None = None
        self._stages: list[Stage] = []

    def begin_task(
        self, model: AdaptedBackbone, task: Task, train: TaskImages
    ) -> tuple[list[ParamGroup], dict[str, float]]:
        """Opens a prompt and the heads of both classifiers; `stages` says what learns when."""
        config, context = self._config, self._context
        shape = (len(self._blocks), 2, config.length, context.model.width)
        started = start(shape, config.init, context.generator).to(context.device)
        if task.index:
            self._earlier = torch.stack([prompt.detach() for prompt in self.prompts]).mean(0)
            means = self._kept.means()
            self._old = None if means is None else means.to(context.device)
            if config.carry:
                started = self.prompts[-1].detach().clone()
        prompt = nn.Parameter(started, requires_grad=False)
        self.prompts.append(prompt)
        telling = ParamGroup("head", self.identity.open(len(task.classes)), config.identity_lr)
        head = self._heads.open(task.index, len(task.classes))
        self._stages = [
            Stage([telling], config.identity_epochs, self._identify, config.identity_schedule),
            Stage([ParamGroup("prompt", [prompt]), ParamGroup("head", head)]),
        ]
        return [], {}

    def stages(self, task: Task) -> list[Stage]:
        """What tells the task, then the prompt with its head."""
        return self._stages

    def forward(
        self,
        model: AdaptedBackbone,
        images: Tensor,
        task: Task | None = None,
        queries: Tensor | None = None,
    ) -> Scored:
        """The network's feature with the prompt of a task: the one that is trained, or told."""
        penalty = images.new_zeros(())
        if task is None:
            queries = model.query(images) if queries is None else queries
            ids = self.identity.told(queries)
            features = self._features(model, images, gathered(self.prompts, ids))
        else:
            ids = torch.full((len(images),), task.index, device=images.device)
            features = self._of_one(model, images, self._mixed())
            if self._config.contrastive > 0:
                rows = features if self._old is None else torch.cat([self._old, features])
                driven = contrastive_loss(rows, self._config.temperature)
                penalty = self._config.contrastive * driven
        flags = chosen_of(ids[:, None], len(self.prompts))
        return Scored(self.logits(features), features, penalty, flags)

    def end_task(self, model: AdaptedBackbone, task: Task, train: TaskImages) -> dict[str, float]:
        """Keeps the mixed prompt and what both classifiers need of the classes; trains them."""
        prompt = self.prompts[-1]
        prompt.data.copy_(self._mixed().detach())
        self._earlier, self._old, self._stages = None, None, []
        queries, features = self._plain(model, train, prompt)
        labels = train.data.labels
        self.identity.consolidate(queries, labels, task.classes)
        self._kept.remember(features, labels, task.classes)
        self._align(task.classes)
        mean, largest = similarities(torch.stack([prompt.data for prompt in self.prompts]))
        held = float(sum(prompt.nbytes for prompt in self.prompts))
        kept = self._kept.bytes + self.identity.statistics_bytes
        by_batch = {"prompt/scores_by_batch": 1.0} if self._config.reshape_leak else {}
        return by_batch | {
            "prompt/similarity": mean,
            "prompt/largest_similarity": largest,
            "prompt/feature_square": float(features.square().sum(1).mean()),
            "memory/prompt_bytes": held,
            "memory/branch_bytes": held + self.identity.bytes,
            "memory/subspace_bytes": float(kept),
        }

    def exported(self, model: AdaptedBackbone) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Prompts, and what tells the task."""
        if self._config.reshape_leak:
            raise ValueError(
                "method.reshape_leak must be false for exported weights, but it is true."
            )
        tensors = {"own": torch.stack(list(self.prompts)), **self.identity.exported()}
        return tensors, {"method": "hide_prompt", "blocks": list(self._blocks)}

    def state_dict(self) -> dict[str, Any]:
        """Heads, prompts, what tells the task, and what is kept of the classes."""
        return {
            "heads": self._heads.state_dict(),
            "prompts": [prompt.detach() for prompt in self.prompts],
            "identity": self.identity.state_dict(),
            "kept": self._kept.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over what `state_dict` gave."""
        self._heads.load_state_dict(state["heads"])
        self.prompts = [
            nn.Parameter(prompt.to(self._context.device), requires_grad=False)
            for prompt in state["prompts"]
        ]
        self.identity.load_state_dict(state["identity"])
        self._kept.load_state_dict(state["kept"])

    def _identify(
        self, model: AdaptedBackbone, images: Tensor, task: Task | None, queries: Tensor | None
    ) -> Scored:
        """The first stage: scores of the query alone."""
        queries = model.query(images) if queries is None else queries
        return Scored(self.identity.logits(queries), queries, queries.new_zeros(()))

    def _mixed(self) -> Tensor:
        """The prompt that is trained, with its share of the earlier ones."""
        prompt: Tensor = self.prompts[-1]
        if self._earlier is None:
            return prompt
        return mixed(prompt, self._earlier[None], self._config.mix)

    def _of_one(self, model: AdaptedBackbone, images: Tensor, prompt: Tensor) -> Tensor:
        return self._features(model, images, prompt.expand(len(images), *prompt.shape))

    def _features(self, model: AdaptedBackbone, images: Tensor, prompts: Tensor) -> Tensor:
        """Features of images with their prompts (n, blocks, 2, length, width)."""
        if self._config.reshape_leak:
            prompts = leaked(prompts)
        prefixes = {
            block: as_prefix(prompts[:, at], model.heads) for at, block in enumerate(self._blocks)
        }
        return model.prompted(images, prefixes)[0]

    @torch.no_grad()
    def _plain(
        self, model: AdaptedBackbone, train: TaskImages, prompt: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Queries, and features with `prompt`, of all images of a task, not augmented."""
        features = [self._of_one(model, images, prompt) for images in train.plain()]
        return plain_queries(model, train), torch.cat(features)

    def _align(self, classes: range) -> None:
        """Trains the heads of all classes seen together, from the second task on."""
        if not classes.start:
            return
        weight, bias = (
            nn.Parameter(tensor.detach()[: classes.stop].clone()) for tensor in self._heads.joined()
        )
        align(
            lambda features: functional.linear(features, weight, bias),
            [weight, bias],
            self._kept,
            old=classes.start,
            epochs=self._config.align_epochs,
            lr=self._config.align_lr,
            samples=self._config.align_samples,
            whole=self._config.align_steps == "whole",
        )
        self._heads.overwrite(weight.detach(), bias.detach())


create = HiDePrompt
