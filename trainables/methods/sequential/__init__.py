"""Sequential fine-tuning, without protection: the whole network, task after task."""
