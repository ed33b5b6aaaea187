"""L2P (Wang et al., CVPR 2022, arXiv 2112.08654): tokens chosen by key from a pool of prompts."""
