"""One folder a method: config.py without torch, method.py, and variants of it."""
