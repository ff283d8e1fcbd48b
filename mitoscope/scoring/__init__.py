"""What predictions are worth: figures with their intervals, the rules that place a threshold, and pictures."""
