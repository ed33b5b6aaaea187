"""HiDe-Prompt (Wang et al., NeurIPS 2023, arXiv 2310.07234): the task told, then its prompt."""
