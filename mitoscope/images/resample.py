"""A whole field at another resolution, as `mitoscope.images.slide` reads a box of it: bicubic, by Pillow."""

import numpy as np
from PIL import Image


def resample(pixels: np.ndarray, width_px: int, height_px: int) -> np.ndarray:
    """Resize by bicubic interpolation, with a low-pass filter where the image gets smaller.

    Args:
        pixels: uint8 (H, W, 3).
        width_px: Of the result.
        height_px: Of the result.

    Returns:
        uint8 (height_px, width_px, 3). A place (x, y) in pixels of the image, counted from its corner, is at
        (x * width_px / W, y * height_px / H).
    """
    if pixels.shape[:2] == (height_px, width_px):
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((width_px, height_px), Image.Resampling.BICUBIC))
