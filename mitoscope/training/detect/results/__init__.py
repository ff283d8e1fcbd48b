"""What a study of detectors is worth, and what becomes of it: metrics, the threshold, a bundle, hard negatives."""
