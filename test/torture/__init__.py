"""What the promises are worth under fire: kills, damaged bytes and repeats, counted (not part of the runtime)."""
