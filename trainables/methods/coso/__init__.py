"""CoSO: whole weights trained in subspaces that follow projected gradients."""
