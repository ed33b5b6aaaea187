"""Sequential fine-tuning, a lower bound: the whole network, task after task."""
