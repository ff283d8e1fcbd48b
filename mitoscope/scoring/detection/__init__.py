"""What found mitotic figures are worth (MIDOG 2025, Track 1): metrics, intervals, thresholds, pictures."""
