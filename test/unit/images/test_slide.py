import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
from PIL import Image

from mitoscope.errors import InputError
from mitoscope.images import slide as module
from mitoscope.images.slide import open_slide

CM = {"resolution": (40000, 40000), "resolutionunit": "CENTIMETER"}  # .25 µm per px


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    """uint8 (230, 310, 3): smooth, no two channels alike."""
    coarse = np.random.default_rng(0).integers(60, 250, (12, 16, 3), np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((310, 230), Image.Resampling.BICUBIC))


def read_all(path: Path) -> np.ndarray:
    """The whole image, read in boxes that reach beyond it."""
    slide = open_slide(path, 0.25)
    boxes = [[slide.read(x, y, 128, 96, 0.25) for x in range(-7, slide.width_px, 128)]
             for y in range(-5, slide.height_px, 96)]  # fmt: skip
    return np.vstack([np.hstack(row) for row in boxes])


def assert_same(path: Path, expected: np.ndarray) -> None:
    got, (height, width) = read_all(path), expected.shape[:2]
    assert np.array_equal(got[5 : 5 + height, 7 : 7 + width], expected)
    got[5 : 5 + height, 7 : 7 + width] = 255
    assert (got == 255).all()  # white outside


# ---- what is read


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "zstd", "lzma", "jpeg"])
def test_a_tiff_of_any_compression_gives_what_pillow_gives(
    tmp_path: Path, pixels: np.ndarray, compression: str
) -> None:
    Image.fromarray(pixels).save(tmp_path / "r.tif", compression=compression)
    with Image.open(tmp_path / "r.tif") as image:
        assert_same(tmp_path / "r.tif", np.asarray(image))


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize(
    "layout", [{"tile": (64, 48)}, {"rowsperstrip": 1}, {"rowsperstrip": 7}, {"rowsperstrip": 999}]
)
@pytest.mark.parametrize("kind", [{}, {"bigtiff": True}, {"byteorder": ">"}])
def test_strips_and_tiles_of_any_build_give_the_very_pixels(
    tmp_path: Path, pixels: np.ndarray, planar: str, compression: str | None, layout: dict, kind: dict
) -> None:
    planes = pixels.transpose(2, 0, 1) if planar == "separate" else pixels
    options = {"photometric": "rgb", "planarconfig": planar, "compression": compression, **layout, **kind}
    tifffile.imwrite(tmp_path / "r.tiff", planes, **options)
    assert_same(tmp_path / "r.tiff", pixels)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA"])
@pytest.mark.parametrize("name", ["r.tif", "r.png"])
def test_grey_palette_and_alpha_become_rgb(tmp_path: Path, pixels: np.ndarray, mode: str, name: str) -> None:
    image = Image.fromarray(pixels).convert(mode)
    image.save(tmp_path / name)
    assert_same(tmp_path / name, np.asarray(image.convert("RGB")))
    notes = open_slide(tmp_path / name, 0.25).notes
    assert notes == (("it is greyscale: the networks were trained on H&E in colour",) if mode == "L" else ())


@pytest.mark.parametrize("compress", [False, True])
def test_mha_and_its_spacing(tmp_path: Path, pixels: np.ndarray, compress: bool) -> None:
    image = sitk.GetImageFromArray(pixels, isVector=True)
    image.SetSpacing((0.00023, 0.00025))
    sitk.WriteImage(image, str(tmp_path / "r.mha"), useCompression=compress)
    assert_same(tmp_path / "r.mha", pixels)
    mpp = open_slide(tmp_path / "r.mha").mpp
    assert (mpp.x, mpp.y, mpp.source) == (pytest.approx(0.23), pytest.approx(0.25), "tags")


def test_pictures(tmp_path: Path, pixels: np.ndarray) -> None:
    Image.fromarray(pixels).save(tmp_path / "r.JPG", dpi=(101600, 101600))
    Image.fromarray(pixels).save(tmp_path / "r.png", dpi=(101600, 101600))
    with Image.open(tmp_path / "r.JPG") as image:
        assert_same(tmp_path / "r.JPG", np.asarray(image))
    assert_same(tmp_path / "r.png", pixels)
    assert open_slide(tmp_path / "r.png").mpp.x == pytest.approx(0.25)


def test_only_the_blocks_that_are_needed_are_read(tmp_path: Path, pixels: np.ndarray) -> None:
    path = tmp_path / "r.tif"
    tifffile.imwrite(path, pixels, photometric="rgb", tile=(64, 64), **CM)
    with tifffile.TiffFile(path) as file:
        last = file.pages[0].dataoffsets[-1]
    with path.open("r+b") as opened:
        opened.truncate(last + 100)
    slide = open_slide(path)
    assert np.array_equal(slide.read(0, 0, 200, 150, 0.25), pixels[:150, :200])
    with pytest.raises(InputError, match=r"got 100 bytes for the pixels from x 256, y 192 on, expected 12,288"):
        slide.read(200, 150, 100, 80, 0.25)


def test_decoded_blocks_are_kept_within_a_limit(
    tmp_path: Path, pixels: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    tifffile.imwrite(tmp_path / "r.tif", pixels, photometric="rgb", tile=(64, 64), compression="zlib")
    slide = open_slide(tmp_path / "r.tif", 0.25)
    decoded = []
    read_block = slide._source.read_block
    monkeypatch.setattr(slide._source, "read_block", lambda *at: decoded.append(at) or read_block(*at))
    for _ in range(2):
        slide.read(0, 0, 128, 128, 0.25)
    assert len(decoded) == 4
    monkeypatch.setattr(module, "CACHE_BYTES", 3 * 64 * 64 * 4)
    slide.read(0, 0, 310, 230, 0.25)
    assert len(slide._blocks) == 3


# ---- µm per px


@pytest.mark.parametrize(
    ("resolution", "unit", "mpp"),
    [((101600, 101600), "INCH", (0.25, 0.25)), ((40000, 43956), "CENTIMETER", (0.25, 0.2275)), ((20, 20), "NONE", None),
     ((72, 72), "INCH", None), ((0, 0), "INCH", None)],
)  # fmt: skip
def test_the_tags_give_the_size_of_a_pixel(
    tmp_path: Path, pixels: np.ndarray, resolution: tuple, unit: str, mpp: tuple | None
) -> None:
    tifffile.imwrite(tmp_path / "r.tif", pixels, photometric="rgb", resolution=resolution, resolutionunit=unit)
    slide = open_slide(tmp_path / "r.tif")
    if mpp:
        assert (slide.mpp.x, slide.mpp.y) == pytest.approx(mpp, rel=1e-4)
        assert (slide.mpp.source, slide.notes) == ("tags", ())
    else:
        assert (slide.mpp.x, slide.mpp.source) == (0.25, "assumed")
        assert slide.notes[0].endswith(": 0.25 µm per px is assumed; name the right one with --mpp")
    given = open_slide(tmp_path / "r.tif", 0.5)
    assert (given.mpp.x, given.mpp.y, given.mpp.source) == (0.5, 0.5, "given")
    says = [f"its tags give {mpp[0]:.4g} x {mpp[1]:.4g} µm per px: --mpp 0.5 is taken"] if mpp and mpp[0] != 0.5 else []
    assert list(given.notes) == says


@pytest.mark.parametrize("mpp", [0.0, -1.0, 25.0, float("nan")])
def test_an_absurd_size_is_refused(tmp_path: Path, pixels: np.ndarray, mpp: float) -> None:
    Image.fromarray(pixels).save(tmp_path / "r.png")
    with pytest.raises(InputError, match=r"--mpp cannot be used: got .*expected 0\.05 to 5\.0 µm per px"):
        open_slide(tmp_path / "r.png", mpp)


@pytest.mark.parametrize("mpp", [0.5, 0.41, 0.2])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_a_resampled_pixel_is_the_same_in_any_box(
    tmp_path: Path, pixels: np.ndarray, mpp: float, interpolation: str
) -> None:
    tifffile.imwrite(tmp_path / "r.tif", pixels, photometric="rgb", tile=(64, 64), **CM)
    slide = open_slide(tmp_path / "r.tif")
    width, height = slide.measure(mpp)
    assert (width, height) == (-(-310 * 0.25 // mpp), -(-230 * 0.25 // mpp))
    whole = slide.read(0, 0, width, height, mpp, interpolation)
    box = slide.read(41, 33, 60, 50, mpp, interpolation)
    assert np.abs(whole[33:83, 41:101].astype(int) - box).max() <= 2
    x, y = 70, 60  # a smooth image: the value at the same place
    at = pixels[int((y + 0.5) * mpp / 0.25), int((x + 0.5) * mpp / 0.25)]
    assert np.abs(whole[y, x].astype(int) - at).max() <= 6


def test_pixels_of_nearly_the_right_size_are_not_resampled(tmp_path: Path, pixels: np.ndarray) -> None:
    Image.fromarray(pixels).save(tmp_path / "r.png")
    slide = open_slide(tmp_path / "r.png", 0.2515)
    assert slide.measure(0.25) == (310, 230)
    assert np.array_equal(slide.read(3, 4, 50, 60, 0.25), pixels[4:64, 3:53])
    with pytest.raises(
        InputError, match=r"cannot be resampled to 4 µm per px: got 0\.2515 x 0\.2515 µm per px \(given\)"
    ):
        slide.read(0, 0, 9, 9, 4.0)


# ---- what is refused


def bomb(width: int, height: int) -> bytes:
    """A TIFF whose header names many pixels and whose strip has few."""
    tags = [(256, width), (257, height), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1), (278, height), (279, 8)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return struct.pack("<2sHI8xH", b"II", 42, 16, len(tags)) + entries + bytes(4)


def write_tiff(path: Path, pixels: np.ndarray) -> None:
    tifffile.imwrite(path, pixels, photometric="rgb" if pixels.shape[-1] == 3 else "minisblack")


def write_mha(path: Path, pixels: np.ndarray, *, is_vector: bool = True) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(pixels, isVector=is_vector), str(path))


FAULTS: dict[str, tuple[str, Callable[[Path, np.ndarray], object], str]] = {
    "16-bit TIFF": ("r.tif", lambda p, a: write_tiff(p, a.astype(np.uint16)), "16-bit unsigned"),
    "float TIFF": ("r.tif", lambda p, a: write_tiff(p, a[..., 0].astype(np.float32)), "floating-point"),
    "16-bit PNG": ("r.png", lambda p, a: Image.fromarray(a[..., 0].astype(np.uint16)).save(p), "mode I;16"),
    "CMYK": ("r.jpg", lambda p, a: Image.fromarray(a).convert("CMYK").save(p), "mode CMYK"),
    "a stack": ("r.tif", lambda p, a: write_tiff(p, np.stack([a, a])), "a stack of pages"),
    "200,000 px wide": ("r.tif", lambda p, a: p.write_bytes(bomb(200_000, 5_000)), "got 8 bytes of pixels"),
    "2,000,000 px wide": ("r.tif", lambda p, a: p.write_bytes(bomb(2_000_000, 5)), "1 to 1,048,576 px a side"),
    "no pixels": ("r.tif", lambda p, a: p.write_bytes(bomb(0, 5)), "an image of 0 x 5 px"),
    "text": ("r.tif", lambda p, a: p.write_text("hello" * 9), "begins with"),
    "empty": ("r.png", lambda p, a: p.write_bytes(b""), "a file of zero bytes"),
    "folder": ("r.tif", lambda p, a: p.mkdir(), "a folder"),
    "missing": ("r.tif", lambda p, a: None, "got no such file"),
    "another type": ("r.svg", lambda p, a: p.write_text("<svg/>"), "a file of type '.svg', expected one of .tif"),
    "16-bit MHA": ("r.mha", lambda p, a: write_mha(p, a.astype(np.uint16)), "MET_USHORT"),
    "volume": ("r.mha", lambda p, a: write_mha(p, np.stack([a[..., 0]] * 3), is_vector=False), "one image"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_cannot_be_read_is_one_line(tmp_path: Path, pixels: np.ndarray, fault: str) -> None:
    name, write, words = FAULTS[fault]
    write(tmp_path / name, pixels)
    with pytest.raises(InputError) as caught:
        open_slide(tmp_path / name, 0.25).read(0, 0, 64, 64, 0.25)
    line = str(caught.value)
    assert words in line and "cannot be read as an image of tissue" in line and line.isprintable()


@pytest.mark.parametrize("name", ["r.tif", "r.png", "r.jpg", "r.mha"])
def test_a_file_that_was_cut_off_is_refused(tmp_path: Path, pixels: np.ndarray, name: str) -> None:
    path = tmp_path / name
    if name == "r.mha":
        sitk.WriteImage(sitk.GetImageFromArray(pixels, isVector=True), str(path), useCompression=True)
    else:
        Image.fromarray(pixels).save(path, **({"compression": "tiff_lzw"} if name == "r.tif" else {}))
    path.write_bytes(path.read_bytes()[:-700])
    with pytest.raises(InputError, match="cannot be read as an image of tissue"):
        open_slide(path, 0.25).read(0, 0, 310, 230, 0.25)


def test_jpeg_that_breaks_off_inside_a_tiff_is_refused(tmp_path: Path, pixels: np.ndarray) -> None:
    """libtiff fills the rest of such a tile with one colour, and only warns."""
    Image.fromarray(pixels).save(tmp_path / "r.tif", compression="jpeg")
    with Image.open(tmp_path / "r.tif") as image:
        offset, count = image.tag_v2[273][0], image.tag_v2[279][0]
    content = bytearray((tmp_path / "r.tif").read_bytes())
    content[offset + count // 2 : offset + count] = bytes(count - count // 2)
    (tmp_path / "r.tif").write_bytes(content)
    with pytest.raises(InputError, match="got JPEG data that break off, expected a whole file"):
        open_slide(tmp_path / "r.tif", 0.25).read(0, 0, 310, 230, 0.25)


@pytest.mark.parametrize("name", ["r.png", "r.mha"])  # libtiff checks no sums
def test_damaged_pixels_are_refused(tmp_path: Path, pixels: np.ndarray, name: str) -> None:
    path = tmp_path / name
    if name == "r.mha":
        sitk.WriteImage(sitk.GetImageFromArray(pixels, isVector=True), str(path), useCompression=True)
    else:
        Image.fromarray(pixels).save(path)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 200] = bytes(200)
    path.write_bytes(content)
    with pytest.raises(InputError, match="cannot be read as an image of tissue"):
        open_slide(path, 0.25).read(0, 0, 310, 230, 0.25)
