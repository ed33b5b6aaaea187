"""Seconds and memory against accuracy, the estimate, failures, how to reproduce, all trials."""
