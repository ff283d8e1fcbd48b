"""Pixels from files: crops, stacks and slides; stain and sharpness of crops."""

CROP_PX = 128  # side of a crop: a page of a stack, or one picture
PAGE_LIMIT = 1024  # of a stack; the platform sends 1 to 16 pages, longer stacks are scored offline
