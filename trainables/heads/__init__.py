"""What tells classes from features: heads that are trained, and heads that are fitted."""

from trainables.heads.alignment import ClassifierAlignment, features_of
from trainables.heads.class_means import ClassMeans
from trainables.heads.classifier import Classifier
from trainables.heads.cosine import cosface_loss
from trainables.heads.linear import TaskHeads, current_task_loss, start_head
from trainables.heads.linear_form import linear_form
from trainables.heads.ridge import RidgeHead

__all__ = [
    "ClassMeans",
    "Classifier",
    "ClassifierAlignment",
    "RidgeHead",
    "TaskHeads",
    "cosface_loss",
    "current_task_loss",
    "features_of",
    "linear_form",
    "start_head",
]
