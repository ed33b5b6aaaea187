"""Sequential LoRA, a lower bound: one branch, task after task."""
