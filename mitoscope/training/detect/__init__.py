"""Detectors: fields with labelled points → a bundle."""
