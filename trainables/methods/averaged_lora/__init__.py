"""Averaged LoRA, a merging baseline: a branch a task, each from the pretrained weights."""
