"""RanPAC, a control: a branch for the first task, then a ridge regression on random features."""
