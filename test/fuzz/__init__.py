"""Hostile input for every reader of outside data: `PYTHONPATH=.:test python -m fuzz`, and test/unit/fuzz."""
