"""What was found on a slide, in formats that other programs read."""
