"""What predictions are worth: metrics, intervals, thresholds, plots, report."""
