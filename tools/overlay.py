"""Draw the points of a container's result of Track 1 on its region, and save the picture.

python -m tools.overlay RESULT REGION PICTURE
"""

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from mitoscope.images.slide import open_slide, read_origin_mm
from mitoscope.sockets import POINT_NAMES

RING_UM = 12.5  # radius: a mitotic figure with its cell
COLOURS = dict(zip(POINT_NAMES, ("#ffd000", "#00a000"), strict=True))
LARGEST_PX = 3000  # of the picture's longer side
LEAST_P = 0.1  # points below this are not drawn


def draw_points(result: Path, region: Path) -> Image.Image:
    """The region with a ring and a probability for each point: green for mitotic figures, yellow for the others.

    Args:
        result: A mitotic-figures.json.
        region: The file that was searched.

    Raises:
        InputError: The region cannot be read.
    """
    slide = open_slide(region)
    points = json.loads(result.read_text(encoding="utf-8"))["points"]
    mpp = max(slide.mpp.x, slide.mpp.y, max(slide.width_px, slide.height_px) * slide.mpp.x / LARGEST_PX)
    picture = Image.fromarray(slide.read(0, 0, *slide.measure(mpp), mpp))
    pen, ring_px = ImageDraw.Draw(picture), RING_UM / mpp
    origin_mm = (0.0, 0.0) if slide.mpp.source == "assumed" else read_origin_mm(region)
    for point in reversed(points):  # the most probable on top
        if point["probability"] < LEAST_P and point["name"] == POINT_NAMES[0]:
            continue
        indices = (np.array(point["point"][:2]) - origin_mm) * 1000 / (slide.mpp.x, slide.mpp.y)
        x, y = (indices + 0.5) / slide.measure_scale(mpp)
        pen.ellipse((x - ring_px, y - ring_px, x + ring_px, y + ring_px), outline=COLOURS[point["name"]], width=3)
        label = (x + ring_px, y - ring_px)
        pen.text(label, f"{point['probability']:.2f}", fill="black", stroke_width=2, stroke_fill="white", font_size=16)
    return picture


def main() -> None:
    """Read the command line and save the picture."""
    parser = argparse.ArgumentParser(prog="python -m tools.overlay", description=draw_points.__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("result", type=Path, metavar="RESULT", help="a container's mitotic-figures.json")
    parser.add_argument("region", type=Path, metavar="REGION", help="the TIFF or MHA that was searched")
    parser.add_argument("picture", type=Path, metavar="PICTURE", help="the PNG to write")
    options = parser.parse_args()
    draw_points(options.result, options.region).save(options.picture)
    print(f"wrote {options.picture}")


if __name__ == "__main__":
    main()
