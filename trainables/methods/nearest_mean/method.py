"""Frozen backbone and nearest class mean: what the pretrained features give without training."""

from trainables.backbones.adapted import AdaptedBackbone
from trainables.data.batches import TaskImages
from trainables.data.stream import Task
from trainables.frozen import plain_features
from trainables.heads import ClassMeans, current_task_loss
from trainables.method import MethodContext, ParamGroup
from trainables.methods.nearest_mean.config import NearestMeanConfig


class NearestMean:
    """Scores an image by how near its features are to each class's mean."""

    trains_backbone = False
    loss = staticmethod(current_task_loss)  # nothing minimises it

    def __init__(self, config: NearestMeanConfig, context: MethodContext) -> None:
        self._means = ClassMeans(context.model.width, config.metric, context.device)
        self.logits = self._means.logits
        self.state_dict, self.load_state_dict = self._means.state_dict, self._means.load_state_dict

    def begin_task(
        self, model: AdaptedBackbone, task: Task, train: TaskImages
    ) -> tuple[list[ParamGroup], dict[str, float]]:
        """Trains nothing."""
        return [], {}

    def end_task(self, model: AdaptedBackbone, task: Task, train: TaskImages) -> dict[str, float]:
        """Takes the means of the new classes over plain training images."""
        features = plain_features(model, train)
        self._means.fit(features, train.data.labels, task.classes)
        return {"memory/subspace_bytes": 0.0, "memory/branch_bytes": 0.0}


create = NearestMean
