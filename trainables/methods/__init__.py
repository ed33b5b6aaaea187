"""One method of continual learning a file: its config and its code."""
