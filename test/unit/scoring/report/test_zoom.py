"""The zoomable view: the library is the published one, and the pyramid is whole at every level."""

import base64
import hashlib
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mitoscope.images.slide import open_slide
from mitoscope.scoring.report.zoom import (
    LIBRARY,
    OVERLAP_PX,
    TILE_PX,
    count_tiles,
    cut_pyramid,
    describe_view,
    read_library,
)

PUBLISHED = "14d587cd3ee7c4861f1a41077ce642029364a21029956ba635bd8fb1202cf9ad"  # npm's openseadragon 6.1.1


def test_the_library_is_the_published_file_and_the_page_gets_its_licence() -> None:
    assert hashlib.sha256(LIBRARY.read_bytes()).hexdigest() == PUBLISHED
    text = read_library()
    assert text.startswith("/*\nCopyright (C) 2009 CodePlex Foundation")
    assert "Redistributions in binary form must reproduce the above copyright notice" in text
    for forbidden in ("</script", "<!--", "sourceMappingURL"):
        assert forbidden not in text


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """1300 × 700 px: brightness rises from left to right."""
    ramp = np.linspace(0, 255, 1300).astype(np.uint8)
    Image.fromarray(np.repeat(np.tile(ramp, (700, 1))[..., None], 3, axis=2)).save(tmp_path / "ramp.png")
    return tmp_path / "ramp.png"


def test_each_level_is_half_of_the_next_and_shows_the_same(picture: Path) -> None:
    done: list[int] = []
    slide = open_slide(picture, 0.5)
    pyramid = cut_pyramid(slide, 0.5, done.append)
    assert OVERLAP_PX == 1
    assert sum(done) == count_tiles(slide, 0.5) == 6
    assert [len(level) for level in pyramid.levels] == [1, 2, 6]
    for level, (width, height) in zip(pyramid.levels, ((325, 175), (650, 350), (1300, 700)), strict=True):
        across, canvas = -(-width // TILE_PX), Image.new("RGB", (width, height))
        for number, text in enumerate(level):
            tile, (row, column) = Image.open(io.BytesIO(base64.b64decode(text))), divmod(number, across)
            left, top = (max(0, TILE_PX * place - OVERLAP_PX) for place in (column, row))
            right, below = (
                min(size, TILE_PX * (place + 1) + OVERLAP_PX) for size, place in ((width, column), (height, row))
            )
            assert tile.size == (right - left, below - top)  # each shows a pixel of its neighbours
            canvas.paste(tile, (left, top))
        pixels = np.asarray(canvas)[..., 0].astype(float)
        np.testing.assert_allclose(pixels[[0, -1]].mean(axis=0), np.linspace(0, 255, width), atol=3)


def test_an_image_is_never_shown_finer_than_it_is(picture: Path) -> None:
    pyramid = cut_pyramid(open_slide(picture, 0.5), 0.25)
    assert (pyramid.width_px, pyramid.height_px, pyramid.mpp, pyramid.scale) == (1300, 700, 0.5, (1.0, 1.0))
    coarse = cut_pyramid(open_slide(picture, 0.25), 0.5)
    assert (coarse.width_px, coarse.height_px, coarse.scale) == (650, 350, (2.0, 2.0))


def test_points_keep_their_pixels_of_level_0(picture: Path) -> None:
    pyramid = cut_pyramid(open_slide(picture, 0.25), 0.5)
    view = describe_view("ramp", pyramid, np.array([[100.04, 200.0]]), np.array([1]), ["figure"])
    assert (view["x"], view["y"], view["kind"], view["text"]) == ([100.0], [200.0], [1], ["figure"])
