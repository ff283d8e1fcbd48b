"""Crops → the probability that each is atypical."""
