from itertools import pairwise

import numpy as np
import pytest

from mitoscope.detect.tiles import MARGIN_PX, STEP_PX, cut_axis, plan_tiles


@pytest.mark.parametrize("length", [1, 31, 32, 256, 257, 300, 1000, 1485, 7001])
@pytest.mark.parametrize("most_px", [224, 320, 1024])
def test_the_cores_cover_an_axis_once(length: int, most_px: int) -> None:
    spans = cut_axis(length, most_px)
    assert (spans[0].low, spans[-1].high) == (0, length)
    assert all(before.high == after.low for before, after in pairwise(spans))
    assert spans[-1].start + spans[-1].size >= length
    for number, span in enumerate(spans):
        assert span.start % STEP_PX == span.size % STEP_PX == 0 and span.size <= most_px
        assert number == 0 or span.low - span.start == MARGIN_PX
        assert number == len(spans) - 1 or span.start + span.size - span.high == MARGIN_PX


def test_tiles_cover_an_image_once() -> None:
    seen = np.zeros((700, 900), int)
    for tile in plan_tiles(900, 700, 320):
        seen[tile.y.low : tile.y.high, tile.x.low : tile.x.high] += 1
    assert (seen == 1).all()


def test_no_more_pixels_are_computed_than_needed() -> None:
    shapes = {(tile.x.size, tile.y.size) for tile in plan_tiles(3500, 2500, 1024)}
    assert shapes == {(1024, 992)}
    assert len(plan_tiles(3500, 2500, 1024)) == 12
