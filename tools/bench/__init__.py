"""Speed, measured side by side in one run; results as JSON with machine, versions and commit."""
