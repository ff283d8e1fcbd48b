"""Hostile input for every reader of outside data: `python -m fuzz`, and the properties in test/unit/fuzz."""
