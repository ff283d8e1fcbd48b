"""Many fits: the folds of a split, on this machine or on a cluster."""
