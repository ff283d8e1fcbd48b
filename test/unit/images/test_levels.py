"""Pyramids: openslide's, tiffslide's and our own pixels agree; overviews come from the smallest level that has them."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from mitoscope.errors import InputError
from mitoscope.images.slide import Mpp, Slide, open_slide
from mitoscope.images.tiff_source import TiffSource
from mitoscope.slide.overview import read_small

openslide = pytest.importorskip("openslide", reason="needs openslide-python and openslide-bin (requirements-dev.txt)")


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    coarse = np.random.default_rng(0).integers(60, 250, (12, 16, 3), np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((1001, 803), Image.Resampling.BICUBIC))


def write(path: Path, levels: list[np.ndarray], *, reduced: bool = True, **options: object) -> Path:
    with tifffile.TiffWriter(path) as writer:
        for number, level in enumerate(levels):
            size = 40000 * level.shape[1] / levels[0].shape[1]
            writer.write(level, photometric="rgb", tile=(128, 128), subfiletype=int(reduced and number > 0),
                         resolution=(size, size), resolutionunit="CENTIMETER", **options)  # fmt: skip
    return path


def shrink(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BOX))


@pytest.fixture(scope="module")
def pyramid(pixels: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Downsamples of 2.002 and 4.004."""
    levels = [pixels, shrink(pixels, 500, 401), shrink(pixels, 250, 200)]
    return write(tmp_path_factory.mktemp("slides") / "p.tif", levels, compression="zlib")


def test_three_readers_agree(pyramid: Path, pixels: np.ndarray) -> None:
    from mitoscope.images.openslide_source import OpenSlideSource

    own = open_slide(pyramid)
    assert isinstance(own._source, TiffSource)
    source = OpenSlideSource(pyramid)
    theirs = Slide(pyramid, source, Mpp(*source.mpp, "tags"), ())
    assert source.mpp == pytest.approx((own.mpp.x, own.mpp.y))
    for slide in (own, theirs):
        assert np.array_equal(slide.read(0, 0, 1001, 803, 0.25), pixels)
        assert (slide.read(-20, 700, 20, 50, 0.25) == 255).all()  # outside
    assert np.abs(read_small(own, 2).pixels.astype(int) - read_small(theirs, 2).pixels).max() <= 4


def test_tiffslide_agrees(pyramid: Path, pixels: np.ndarray) -> None:
    tiffslide = pytest.importorskip("tiffslide", reason="needs tiffslide (requirements-dev.txt)")
    with tiffslide.TiffSlide(pyramid) as slide:
        theirs = np.asarray(slide.read_region((300, 200), 0, (256, 256)))[..., :3]
        widths = [width for width, _ in slide.level_dimensions[1:]]
    assert np.array_equal(theirs, open_slide(pyramid).read(300, 200, 256, 256, 0.25))
    assert [level.width_px for level in TiffSource(pyramid).open_levels()] == widths


def test_an_overview_is_nearly_the_same_with_and_without_levels(
    pyramid: Path, pixels: np.ndarray, tmp_path: Path
) -> None:
    flat = write(tmp_path / "flat.tif", [pixels])
    first, second = (read_small(open_slide(path), 2.0).pixels.astype(int) for path in (pyramid, flat))
    assert first.shape == (101, 126, 3)
    apart = np.abs(first - second)[:-1, :-1]
    assert apart.mean() <= 2 and apart.max() <= 10  # the level's own pixels lie up to one of level 0 beside
    expected = pixels[:800, :1000].reshape(100, 8, 125, 8, 3).mean(axis=(1, 3))
    assert np.abs(second[:100, :125] - expected).max() <= 1


def test_a_label_is_no_level(pixels: np.ndarray, tmp_path: Path) -> None:
    path = write(tmp_path / "s.tif", [pixels, shrink(pixels, 500, 401), np.zeros((200, 200, 3), np.uint8)])
    assert [level.width_px for level in TiffSource(path).open_levels()] == [500]
    path = write(tmp_path / "p.tif", [pixels, np.zeros((401, 500, 3), np.uint8)], reduced=False)
    assert TiffSource(path).open_levels() == []  # it has the slide's proportions, but does not say that it shows it


def test_a_tile_that_is_not_stored_is_glass_and_one_that_is_cut_off_is_refused(
    pixels: np.ndarray, tmp_path: Path
) -> None:
    path = write(tmp_path / "s.tif", [pixels])
    with tifffile.TiffFile(path) as file:
        tags, order = file.pages[0].tags, file.byteorder
        places = [tags[name] for name in ("TileOffsets", "TileByteCounts")]
        sizes = [place.valueoffset for place in places], [place.dtype for place in places]
    assert order == "<"
    width = {3: 2, 4: 4, 16: 8}
    with path.open("r+b") as file:
        for at, kind in zip(*sizes, strict=True):
            file.seek(at + 9 * width[int(kind)])  # the second row's second tile: 8 tiles across
            file.write(bytes(width[int(kind)]))
    slide = open_slide(path)
    assert (slide.read(128, 128, 128, 128, 0.25) == 255).all()
    assert np.array_equal(slide.read(0, 128, 128, 128, 0.25), pixels[128:256, :128])


def test_a_missing_size_of_a_pixel_stops_where_it_must_be_known(pixels: np.ndarray, tmp_path: Path) -> None:
    Image.fromarray(pixels).save(tmp_path / "r.png")
    Image.fromarray(pixels).save(tmp_path / "screen.png", dpi=(72, 72))
    for name in ("r.png", "screen.png"):
        with pytest.raises(InputError, match=r"no usable µm per px: got .*--mpp 0\.25"):
            open_slide(tmp_path / name, may_assume=False)
    assert open_slide(tmp_path / "r.png", 0.25, may_assume=False).mpp.source == "given"
