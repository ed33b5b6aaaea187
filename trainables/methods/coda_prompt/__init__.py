"""CODA-Prompt (Smith et al., CVPR 2023, arXiv 2211.13218): prompts as weighted components."""
