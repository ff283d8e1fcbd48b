"""From data sets to a weights bundle. Imported by no container."""
