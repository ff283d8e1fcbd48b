"""A region or slide that a page shows zoomable, with points on it, without a network: OpenSeadragon, and tiles as text.

How another page takes it over (a slide's, for example):

1. `cut_pyramid` reads an image at the resolution that the page is to show, and cuts it into JPEG tiles.
2. `describe_view` joins them with points. Put a list of its results into the page's data as ``views``, and the kinds of
   points beside it as ``kinds`` (`Kind`). Lines that all views show are ``outlines`` (`Outline`).
3. Call `mitoscope.scoring.report.page.render` with ``library=read_library()`` and ``zoom.js`` among the scripts.
4. The template includes ``zoom.html.j2`` where the view shall be; a script calls ``makeZoom(data.views, data.kinds)``,
   with ``data.outlines`` as a third argument where there are some. It returns ``show(number)`` (another view),
   ``goTo(x_px, y_px)`` (centre a place of level 0, enlarged), ``showKind(number)`` (points of a kind that is hidden)
   and ``onPick(function)`` (called with the number of a point that was clicked).

Coordinates of points are pixels of level 0, the file's own, whatever resolution the page shows.
"""

import io
import math
from base64 import b64encode
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mitoscope.images.slide import Slide

LIBRARY = Path(__file__).resolve().parent / "vendor" / "openseadragon" / "openseadragon.min.js"  # docs/adr/0019
SOURCE_MAP = "//# sourceMappingURL"  # of a file that the page does not hold
TILE_PX = 512
OVERLAP_PX = 1  # that a tile shows of its neighbours: without it, enlarged tiles have seams
JPEG = {"quality": 80, "subsampling": 0}  # 2 mm² at .5 µm per px are some 3 MB of text


@dataclass(frozen=True)
class Kind:
    """What a point can be.

    Attributes:
        name: In the legend.
        colour: As CSS has it, such as ``#c4005a``.
        shape: ``"circle"``, ``"square"`` or ``"cross"``, so that kinds differ not by colour alone.
        shown: Whether the page shows it before it is asked to.
    """

    name: str
    colour: str
    shape: str
    shown: bool = True


@dataclass(frozen=True)
class Outline:
    """A line over every view, as wide on the screen however far it is zoomed.

    Attributes:
        colour: As CSS has it.
        width: In pixels of the screen.
        rings: Closed rings of x and y in pixels of level 0.
    """

    colour: str
    width: float
    rings: list[list[list[float]]]


@dataclass(frozen=True)
class Pyramid:
    """An image in tiles.

    Attributes:
        width_px: Of the finest level.
        height_px: Of the finest level.
        scale: Pixels of level 0 that a pixel of the finest level spans, along x and y.
        mpp: µm per pixel of the finest level.
        levels: From the coarsest, which is one tile, to the finest; each is half of the next. Base64 of JPEG tiles
            of at most `TILE_PX` and `OVERLAP_PX` beyond, row by row.
    """

    width_px: int
    height_px: int
    scale: tuple[float, float]
    mpp: float
    levels: tuple[tuple[str, ...], ...]


def cut_pyramid(slide: Slide, mpp: float, update: Callable[[int], object] = lambda n_done: None) -> Pyramid:
    """Read an image and cut it into tiles.

    The finest level is read tile by tile, the next coarser one is kept in memory: 3 bytes for four pixels.

    Args:
        slide: The image.
        mpp: µm per pixel of the finest level; where the image itself is coarser, its own is taken.
        update: Called with 1 after each tile of the finest level.

    Raises:
        InputError: The image is damaged.
    """
    mpp = max(mpp, slide.mpp.x, slide.mpp.y)
    width, height = slide.measure(mpp)
    coarser = Image.new("RGB", (math.ceil(width / 2), math.ceil(height / 2)))
    finest = []
    for top, left, high, wide in _list_tiles(width, height):
        x0, y0, x1, y1 = _overlap(left, top, left + wide, top + high, width, height)
        seen = Image.fromarray(slide.read(x0, y0, x1 - x0, y1 - y0, mpp))
        finest.append(_encode(seen))
        tile = seen.crop((left - x0, top - y0, left - x0 + wide, top - y0 + high))
        small = tile.resize((math.ceil(wide / 2), math.ceil(high / 2)), Image.Resampling.BOX)
        coarser.paste(small, (left // 2, top // 2))
        update(1)
    levels = [tuple(finest)]
    while len(levels[-1]) > 1:
        boxes = [_overlap(x, y, x + w, y + h, *coarser.size) for y, x, h, w in _list_tiles(*coarser.size)]
        levels.append(tuple(_encode(coarser.crop(box)) for box in boxes))
        coarser = coarser.resize((math.ceil(coarser.width / 2), math.ceil(coarser.height / 2)), Image.Resampling.BOX)
    return Pyramid(width, height, slide.measure_scale(mpp), mpp, tuple(reversed(levels)))


def count_tiles(slide: Slide, mpp: float) -> int:
    """How many tiles `cut_pyramid` reads."""
    return len(_list_tiles(*slide.measure(max(mpp, slide.mpp.x, slide.mpp.y))))


def describe_view(
    name: str,
    pyramid: Pyramid,
    points_px: np.ndarray,
    kinds: np.ndarray,
    texts: Sequence[str],
    origin_px: tuple[int, int] = (0, 0),
) -> dict[str, Any]:
    """The data of one view for the page's script.

    Args:
        name: Of the image.
        pyramid: Of it.
        points_px: float (N, 2), x and y in pixels of level 0.
        kinds: int (N,), the number of each point's `Kind`.
        texts: N lines that are shown at the points, such as their probability.
        origin_px: The upper left corner of the view, x and y in pixels of level 0.

    Returns:
        What `json.dumps` takes.
    """
    return {
        "name": name,
        **asdict(pyramid),
        "tile_px": TILE_PX,
        "overlap_px": OVERLAP_PX,
        "origin": list(origin_px),
        "x": np.round(points_px[:, 0], 1).tolist(),
        "y": np.round(points_px[:, 1], 1).tolist(),
        "kind": kinds.tolist(),
        "text": list(texts),
    }


def read_library() -> str:
    """OpenSeadragon, minified, to stand in a script element of its own; its licence comes first, as it asks for."""
    text = LIBRARY.read_text(encoding="utf-8")
    licence = LIBRARY.with_name("LICENSE.txt").read_text(encoding="utf-8")
    script = "\n".join(line for line in text.splitlines() if not line.startswith(SOURCE_MAP))
    return f"/*\n{licence}*/\n{script}"


def _list_tiles(width: int, height: int) -> list[tuple[int, int, int, int]]:
    """Top, left, height and width of the tiles, row by row."""
    return [
        (top, left, min(TILE_PX, height - top), min(TILE_PX, width - left))
        for top in range(0, height, TILE_PX)
        for left in range(0, width, TILE_PX)
    ]


def _overlap(left: int, top: int, right: int, bottom: int, width: int, height: int) -> tuple[int, int, int, int]:
    """A tile with `OVERLAP_PX` of its neighbours."""
    far = min(width, right + OVERLAP_PX), min(height, bottom + OVERLAP_PX)
    return max(0, left - OVERLAP_PX), max(0, top - OVERLAP_PX), *far


def _encode(tile: Image.Image) -> str:
    """Base64 of a JPEG; the same pixels give the same text."""
    buffer = io.BytesIO()
    tile.save(buffer, "JPEG", **JPEG)
    return b64encode(buffer.getvalue()).decode("ascii")
