"""DualPrompt (Wang et al., ECCV 2022, arXiv 2204.04799): prompts of all tasks and of each task."""
