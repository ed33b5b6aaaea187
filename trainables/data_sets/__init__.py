"""What images there are, in which classes and splits; nothing here imports torch."""
