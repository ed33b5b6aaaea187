"""Low-rank branches and the subspace memory, in torch only."""
