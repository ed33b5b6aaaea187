"""Data sets, task streams and batched augmentation."""
