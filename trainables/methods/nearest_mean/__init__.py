"""Nearest class mean, a reference point: nothing is trained."""
