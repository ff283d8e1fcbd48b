"""Weights with their manifest: found, read, verified, written."""
