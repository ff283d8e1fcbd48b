"""Metrics of labelled predictions, with their intervals."""
