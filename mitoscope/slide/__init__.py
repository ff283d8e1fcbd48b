"""A slide → tissue, mitotic figures, atypical ones, counts, hotspot, GeoJSON for QuPath, and a page."""
