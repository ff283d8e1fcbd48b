"""The platform's names for what a container reads and writes, which scoring needs too.

`model` reads and writes them inside the container; `mitoscope.scoring` reads the same files offline.
"""

INPUT_SLUG = "stacked-histopathology-roi-cropouts"  # Track 2: a stack of crops
OUTPUT_NAME = "multiple-mitotic-figure-classification.json"
REGION_SLUG = "histopathology-region-of-interest-cropout"  # Track 1: a region of a slide
POINTS_NAME = "mitotic-figures.json"
POINT_NAMES = ("non-mitotic figure", "mitotic figure")  # below the threshold, and from it on
