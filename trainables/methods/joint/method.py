"""Joint training: the upper bound, which keeps the images of all tasks seen and trains on them."""

from dataclasses import replace

from torch import Tensor
from torch.nn import functional

from trainables.backbones.adapted import AdaptedBackbone
from trainables.data.batches import TaskImages
from trainables.data.stream import Task
from trainables.method import MethodContext, ParamGroup
from trainables.methods.joint.config import JointConfig
from trainables.methods.sequential_lora.config import SequentialLoRAConfig
from trainables.methods.sequential_lora.method import SequentialLoRA


class Joint:
    """Goes on training branch or backbone and all heads, on images of every task seen so far.

    Scores, measures and state are those of sequential LoRA, whose branch it trains; it stays
    closed where the backbone is trained.
    """

    def __init__(self, config: JointConfig, context: MethodContext) -> None:
        self.trains_backbone = config.trains == "backbone"
        self._budget = config.budget
        watched = context.diagnostics and not self.trains_backbone
        own = SequentialLoRAConfig(rank=config.rank, head_init=config.head_init)
        self._lora = SequentialLoRA(own, replace(context, diagnostics=watched))
        self.logits, self.end_task = self._lora.logits, self._lora.end_task
        self.state_dict, self.load_state_dict = self._lora.state_dict, self._lora.load_state_dict

    def epoch_images(self, new: int, seen: int) -> int:
        """As many as the task brought, or all that were seen."""
        return new if self._budget == "task" else seen

    def begin_task(
        self, model: AdaptedBackbone, task: Task, train: TaskImages
    ) -> tuple[list[ParamGroup], dict[str, float]]:
        """Trains what the config says and the heads of all tasks."""
        self._lora.heads.add(len(task.classes))
        head = ParamGroup("head", self._lora.heads.parameters())
        if self.trains_backbone:
            return [ParamGroup("backbone", list(model.parameters())), head], {}
        factors = self._lora.branch.parameters()
        self._lora.watch.start(self._lora.branch.deltas())
        return [ParamGroup("up", factors), head], {}

    def loss(self, logits: Tensor, labels: Tensor, classes: range) -> Tensor:
        """Cross-entropy over all classes seen: the images are of all of them."""
        return functional.cross_entropy(logits, labels)


create = Joint
