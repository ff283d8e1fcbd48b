"""The runtime package: crops in, probabilities of *atypical* out. It imports neither train nor scoring."""
