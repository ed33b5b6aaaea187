"""Sequential LoRA, without protection: one branch, task after task."""
