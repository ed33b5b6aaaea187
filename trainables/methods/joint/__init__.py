"""Joint training, the upper bound: images of all tasks seen are kept and trained on."""
