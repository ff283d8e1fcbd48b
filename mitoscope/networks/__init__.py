"""Networks, built by name."""
