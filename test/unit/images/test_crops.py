import struct
import warnings

import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
from PIL import Image

from mitoscope.errors import InputError
from mitoscope.images import PAGE_LIMIT
from mitoscope.images.crops import count_greyscale, find_stack, read_crops, read_stack


def write_mha(path, pixels, *, is_vector=True, compress=False):
    sitk.WriteImage(sitk.GetImageFromArray(pixels, isVector=is_vector), str(path), useCompression=compress)
    return path


def write_many_pages(path, n_pages, width_px=128, height_px=128):
    """A greyscale TIFF whose pages all show the same strip: many pages in few bytes."""
    data = bytes(128 * 128)
    tags = [
        *[(256, 4, width_px), (257, 4, height_px), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 8)],
        *[(277, 3, 1), (278, 4, height_px), (279, 4, len(data))],
    ]
    directory_bytes = 2 + 12 * len(tags) + 4
    start = 8 + len(data)
    with path.open("wb") as file:
        file.write(struct.pack("<2sHI", b"II", 42, start) + data)
        for page in range(n_pages):
            following = start + (page + 1) * directory_bytes if page + 1 < n_pages else 0
            entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
            file.write(struct.pack("<H", len(tags)) + entries + struct.pack("<I", following))
    return path


# ---- what is read


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "zstd"])
def test_lossless_tiff_gives_the_very_pixels(tmp_path, stack, save_tiff, compression):
    crops = read_stack(save_tiff(tmp_path / "s.tif", stack, compression))
    assert crops.dtype == np.uint8
    assert np.array_equal(crops, stack)


def test_jpeg_in_tiff_gives_nearly_the_pixels(tmp_path, stack, save_tiff):
    crops = read_stack(save_tiff(tmp_path / "s.tiff", stack, "jpeg"))
    assert crops.shape == stack.shape
    assert np.abs(crops.astype(int) - stack).mean() < 4


@pytest.mark.parametrize("layout", [{"photometric": "rgb"}, {"planarconfig": "separate", "photometric": "rgb"}])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_tiff_of_another_writer_gives_the_very_pixels(tmp_path, stack, layout, byteorder):
    pages = stack.transpose(0, 3, 1, 2) if "planarconfig" in layout else stack
    tifffile.imwrite(tmp_path / "s.tif", pages, compression="zlib", byteorder=byteorder, **layout)
    assert np.array_equal(read_stack(tmp_path / "s.tif"), stack)


@pytest.mark.parametrize("options", [{"bigtiff": True}, {"tile": (64, 64)}, {"rowsperstrip": 16}])
def test_tiff_of_another_build_gives_the_very_pixels(tmp_path, stack, options):
    tifffile.imwrite(tmp_path / "s.tif", stack, photometric="rgb", **options)
    assert np.array_equal(read_stack(tmp_path / "s.tif"), stack)


def test_one_page_is_a_stack(tmp_path, stack, save_tiff):
    assert np.array_equal(read_stack(save_tiff(tmp_path / "S.TIF", stack[:1])), stack[:1])


@pytest.mark.filterwarnings("ignore:.*greyscale")
def test_a_stack_may_be_longer_than_the_platform_sends(tmp_path):
    assert read_stack(write_many_pages(tmp_path / "s.tif", PAGE_LIMIT)).shape == (PAGE_LIMIT, 128, 128, 3)


def test_alpha_is_dropped_without_blending(tmp_path, stack, save_tiff):
    alpha = np.random.default_rng(1).integers(0, 256, (*stack.shape[:3], 1), dtype=np.uint8)
    crops = read_stack(save_tiff(tmp_path / "s.tif", np.concatenate([stack, alpha], axis=3), "tiff_lzw"))
    assert np.array_equal(crops, stack)


def test_greyscale_is_repeated_and_told(tmp_path, stack, save_tiff):
    with pytest.warns(UserWarning, match=r"16 of 16 pages are greyscale.*trained on"):
        crops = read_stack(save_tiff(tmp_path / "s.tif", stack[..., 0]))
    assert np.array_equal(crops, np.repeat(stack[..., :1], 3, axis=3))


def test_pages_of_several_modes_are_read_in_their_order(tmp_path, stack, save_tiff):
    with pytest.warns(UserWarning, match="1 of 3 pages is greyscale"):
        crops = read_stack(save_tiff(tmp_path / "s.tif", [stack[0], stack[1][..., 1], stack[2]]))
    assert np.array_equal(crops, np.stack([stack[0], np.repeat(stack[1][..., 1:2], 3, axis=2), stack[2]]))


def test_a_palette_is_looked_up(tmp_path, stack):
    page = Image.fromarray(stack[0]).quantize(64)
    page.save(tmp_path / "s.tif")
    assert np.array_equal(read_stack(tmp_path / "s.tif")[0], np.asarray(page.convert("RGB")))


@pytest.mark.parametrize("compress", [False, True])
def test_rgb_mha_gives_the_very_pixels(tmp_path, stack, compress):
    assert np.array_equal(read_stack(write_mha(tmp_path / "s.mha", stack, compress=compress)), stack)


def test_mha_without_a_page_axis_is_one_page(tmp_path, stack):
    assert np.array_equal(read_stack(write_mha(tmp_path / "s.mha", stack[3])), stack[3:4])


def test_mha_with_alpha_is_read_as_tiff_is(tmp_path, stack):
    with_alpha = np.concatenate([stack, stack[..., :1]], axis=3)
    assert np.array_equal(read_stack(write_mha(tmp_path / "a.mha", with_alpha)), stack)


@pytest.mark.filterwarnings("ignore:.*greyscale")
def test_greyscale_mha_is_repeated(tmp_path, stack):
    grey = np.repeat(stack[..., :1], 3, axis=3)
    assert np.array_equal(read_stack(write_mha(tmp_path / "g.mha", stack[..., 0], is_vector=False)), grey)
    assert np.array_equal(read_stack(write_mha(tmp_path / "h.mha", stack[0, ..., 0], is_vector=False)), grey[:1])


# ---- what is refused


def refusal(path):
    with warnings.catch_warnings(), pytest.raises(InputError) as caught:
        warnings.simplefilter("error")  # nothing that Pillow warns of may leak
        read_stack(path)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 1000
    return message


@pytest.mark.parametrize("name", ["s.tif", "s.mha"])
def test_an_empty_file_is_refused(tmp_path, name):
    (tmp_path / name).touch()
    assert "zero bytes" in refusal(tmp_path / name)


@pytest.mark.parametrize("name", ["s.tif", "s.tiff", "s.mha"])
@pytest.mark.parametrize("content", [b"II*\0", b"hello", bytes(1000), b"\x89PNG\r\n\x1a\n" + bytes(50)])
def test_other_bytes_are_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert "cannot be read as crops" in refusal(tmp_path / name)


def test_another_file_type_is_refused(tmp_path):
    (tmp_path / "s.txt").write_text("x")
    assert "type '.txt'" in refusal(tmp_path / "s.txt")


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits"])
@pytest.mark.parametrize("n_pages", [1, 3])
def test_a_truncated_tiff_is_refused_wherever_it_ends(tmp_path, stack, save_tiff, compression, n_pages):
    whole = save_tiff(tmp_path / "whole.tif", stack[:n_pages], compression).read_bytes()
    for n_bytes in np.linspace(4, len(whole) - 20, 12).astype(int):
        (tmp_path / "s.tif").write_bytes(whole[:n_bytes])
        assert "expected a whole TIFF of at most 1,024 pages" in refusal(tmp_path / "s.tif")


def test_jpeg_that_breaks_off_inside_a_tiff_is_refused(tmp_path, stack, save_tiff):
    """libtiff fills the rest of such a strip with one colour, and only warns."""
    path = save_tiff(tmp_path / "s.tif", stack[:3], "jpeg")
    content = bytearray(path.read_bytes())
    with Image.open(path) as image:
        image.seek(2)
        offset, count = image.tag_v2[273][-1], image.tag_v2[279][-1]
    content[offset + count // 2 : offset + count] = bytes(count - count // 2)
    path.write_bytes(content)
    assert "got JPEG data that break off, expected a whole file" in refusal(path)


def test_a_truncated_tiff_with_its_directories_first_is_refused(tmp_path, stack):
    tifffile.imwrite(tmp_path / "whole.tif", stack[:1], photometric="rgb", compression="zlib", rowsperstrip=32)
    whole = (tmp_path / "whole.tif").read_bytes()
    for n_bytes in np.linspace(len(whole) // 4, len(whole) - 2, 8).astype(int):
        (tmp_path / "s.tif").write_bytes(whole[:n_bytes])
        assert "expected a whole TIFF of at most 1,024 pages" in refusal(tmp_path / "s.tif")


def test_a_tiff_whose_tag_lies_behind_its_end_is_refused(tmp_path):
    path = write_many_pages(tmp_path / "s.tif", 1)
    content = path.read_bytes()
    rows = struct.pack("<HHII", 278, 4, 1, 128)
    assert rows in content
    path.write_bytes(content.replace(rows, struct.pack("<HHII", 278, 4, 2, len(content) - 2)))
    assert "expected a whole TIFF of at most 1,024 pages" in refusal(path)


@pytest.mark.parametrize("compress", [False, True])
def test_a_truncated_mha_is_refused_wherever_it_ends(tmp_path, stack, compress):
    whole = write_mha(tmp_path / "whole.mha", stack[:2], compress=compress).read_bytes()
    for n_bytes in np.linspace(10, len(whole) - 1, 8).astype(int):
        (tmp_path / "s.mha").write_bytes(whole[:n_bytes])
        assert "cannot be read as crops" in refusal(tmp_path / "s.mha")


@pytest.mark.parametrize("separator", [b" = ", b" : "])  # MetaIO takes both
def test_a_compressed_mha_with_one_wrong_bit_is_refused(tmp_path, stack, separator):
    content = bytearray(write_mha(tmp_path / "s.mha", stack[:2], compress=True).read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "s.mha").write_bytes(content.replace(b"CompressedData = ", b"CompressedData" + separator))
    assert "damaged compressed pixels" in refusal(tmp_path / "s.mha")


def test_a_compressed_mha_with_fewer_pixels_than_its_header_says_is_refused(tmp_path, stack):
    content = write_mha(tmp_path / "s.mha", stack[:2], compress=True).read_bytes()
    (tmp_path / "s.mha").write_bytes(content.replace(b"DimSize = 128 128 2\n", b"DimSize = 128 128 3\n"))
    assert f"{2 * 128 * 128 * 3} bytes of pixels" in refusal(tmp_path / "s.mha")


@pytest.mark.parametrize("dtype", [np.uint16, np.int8, np.int16, np.float32, np.float64, np.uint32])
@pytest.mark.parametrize("n_channels", [1, 3])
def test_other_pixel_types_are_refused(tmp_path, stack, dtype, n_channels):
    pixels = stack[:2, ..., 0].astype(dtype) if n_channels == 1 else stack[:2].astype(dtype)
    photometric = "minisblack" if n_channels == 1 else "rgb"
    tifffile.imwrite(tmp_path / "s.tif", pixels, photometric=photometric)
    assert "cannot be read as crops" in refusal(tmp_path / "s.tif")
    write_mha(tmp_path / "s.mha", pixels, is_vector=n_channels == 3)
    assert "8-bit unsigned RGB" in refusal(tmp_path / "s.mha")


def test_sixteen_bit_rgb_is_named(tmp_path, stack):
    tifffile.imwrite(tmp_path / "s.tif", stack.astype(np.uint16), photometric="rgb")
    assert "page 1 of 16-bit unsigned samples" in refusal(tmp_path / "s.tif")


def test_one_bit_pixels_are_refused(tmp_path):
    Image.new("1", (128, 128)).save(tmp_path / "s.tif")
    assert "page 1 of 1-bit" in refusal(tmp_path / "s.tif")


def test_cmyk_is_refused(tmp_path):
    Image.new("CMYK", (128, 128)).save(tmp_path / "s.tif")
    assert "mode CMYK" in refusal(tmp_path / "s.tif")


@pytest.mark.parametrize("width_px, height_px", [(10_000, 128), (10_000, 10_000), (100_000, 100_000), (127, 128)])
def test_a_page_of_another_size_is_refused_from_its_header(tmp_path, width_px, height_px):
    path = write_many_pages(tmp_path / "s.tif", 1, width_px, height_px)  # there are no such pixels to decode
    assert f"page 1 of {width_px} x {height_px} px, expected 128 x 128 px" in refusal(path)


def test_a_later_page_of_another_size_is_refused(tmp_path, stack, save_tiff):
    assert "page 2 of 128 x 64 px" in refusal(save_tiff(tmp_path / "s.tif", [stack[0], stack[1][:64]]))


def test_too_many_pages_are_refused(tmp_path):
    assert "more than 1024 pages" in refusal(write_many_pages(tmp_path / "s.tif", 5000))


@pytest.mark.parametrize(
    "shape, got",
    [((128, 10_000, 3), "10000 x 128"), ((2, 64, 128, 3), "128 x 64 x 2"), ((1025, 128, 128, 3), "128 x 128 x 1025")],
)
def test_mha_of_another_size_is_refused_from_its_header(tmp_path, shape, got):
    whole = write_mha(tmp_path / "whole.mha", np.zeros(shape, np.uint8)).read_bytes()
    (tmp_path / "s.mha").write_bytes(whole[:600])  # there are no pixels left to decode
    assert f"got an image of {got}," in refusal(tmp_path / "s.mha")


@pytest.mark.parametrize("n_channels", [2, 5])
def test_mha_with_other_channels_is_refused(tmp_path, n_channels):
    write_mha(tmp_path / "s.mha", np.zeros((128, 128, n_channels), np.uint8))
    assert f"{n_channels} channels" in refusal(tmp_path / "s.mha")


def test_mha_that_names_another_file_is_refused(tmp_path, stack):
    header, pixels = write_mha(tmp_path / "whole.mha", stack[0]).read_bytes().split(b"LOCAL\n", 1)
    (tmp_path / "elsewhere.raw").write_bytes(pixels)
    (tmp_path / "s.mha").write_bytes(header + b"elsewhere.raw\n")
    assert "pixels in the file 'elsewhere.raw'" in refusal(tmp_path / "s.mha")


# ---- which file is read


@pytest.mark.parametrize("name", ["a.tif", "a.TIFF", "a.Mha"])
def test_the_one_stack_is_found(tmp_path, name):
    (tmp_path / name).touch()
    (tmp_path / "notes.txt").touch()
    assert find_stack(tmp_path) == tmp_path / name


def test_no_image_is_refused_with_what_lies_there(tmp_path):
    (tmp_path / "a.png").touch()
    with pytest.raises(
        InputError, match=r"no image in .* got a folder that holds \['a\.png'\], expected exactly one of"
    ):
        find_stack(tmp_path)
    (tmp_path / "empty").mkdir()
    for name, got in (("missing", "no such folder"), ("empty", "an empty folder"), ("a.png", "a file")):
        with pytest.raises(InputError, match=f"no image in .*{name}': got {got}, expected"):
            find_stack(tmp_path / name)


def test_two_images_are_refused_with_both_names(tmp_path):
    (tmp_path / "a.tif").touch()
    (tmp_path / "b.mha").touch()
    with pytest.raises(InputError, match=r"2 images in .* got a folder that holds \['a\.tif', 'b\.mha'\]"):
        find_stack(tmp_path)


def test_a_link_out_of_the_case_is_refused(tmp_path):
    folder = tmp_path / "input" / "images"
    folder.mkdir(parents=True)
    (tmp_path / "secret.tif").touch()
    (folder / "a.tif").symlink_to(tmp_path / "secret.tif")
    with pytest.raises(InputError, match=r"'a\.tif' is outside of the case"):
        find_stack(folder, root=tmp_path / "input")


def test_a_link_to_itself_is_refused(tmp_path):
    (tmp_path / "a.tif").symlink_to("a.tif")
    with pytest.raises(InputError, match="symbolic links"):
        read_stack(find_stack(tmp_path))


def test_a_link_within_the_case_and_to_the_case_is_followed(tmp_path):
    case = tmp_path / "case"
    (case / "images").mkdir(parents=True)
    (case / "real.bin").touch()
    (case / "images" / "a.tif").symlink_to(case / "real.bin")
    (tmp_path / "input").symlink_to(case)
    assert find_stack(tmp_path / "input" / "images", root=tmp_path / "input").name == "a.tif"


@pytest.mark.parametrize("name", ["a.png", "A.PNG"])
def test_a_png_gives_the_very_pixels(tmp_path, stack, name):
    Image.fromarray(stack[0]).save(tmp_path / name)
    np.testing.assert_array_equal(read_crops(tmp_path / name), stack[:1])


@pytest.mark.parametrize("name", ["a.jpg", "a.jpeg"])
def test_a_jpeg_gives_nearly_the_pixels(tmp_path, stack, name):
    Image.fromarray(stack[0]).save(tmp_path / name, quality=95)
    crops = read_crops(tmp_path / name)
    assert crops.shape == (1, 128, 128, 3)
    assert np.abs(crops[0].astype(int) - stack[0]).mean() < 3


def test_a_stack_reads_as_crops(tmp_path, stack, save_tiff):
    np.testing.assert_array_equal(read_crops(save_tiff(tmp_path / "a.tif", stack)), stack)


def test_greyscale_crops_are_counted_and_not_warned_of(tmp_path, stack):
    Image.fromarray(stack[0]).convert("L").save(tmp_path / "a.png")
    grey = read_crops(tmp_path / "a.png")
    assert count_greyscale(np.concatenate([grey, stack])) == 1


@pytest.mark.parametrize(
    ("fault", "got"),
    [
        ("missing", "No such file"),
        ("truncated", "truncated|broken"),
        ("too small", "64 x 64 px"),
        ("16 bits", "mode I;16"),
        ("16-bit RGB", "RGB;16B"),
        ("animated", "an animation"),
        ("a TIFF by another name", "not a PNG file"),
    ],
)
def test_an_unusable_png_is_refused(tmp_path, stack, save_tiff, fault, got):
    path = tmp_path / "a.png"
    picture = Image.fromarray(stack[0])
    match fault:
        case "truncated":
            picture.save(path)
            path.write_bytes(path.read_bytes()[:-200])
        case "too small":
            picture.resize((64, 64)).save(path)
        case "16 bits":
            Image.fromarray(stack[0][..., 0].astype(np.uint16)).save(path)
        case "16-bit RGB":
            sitk.WriteImage(sitk.GetImageFromArray(stack[0].astype(np.uint16), isVector=True), str(path))
        case "animated":
            picture.save(path, save_all=True, append_images=[Image.fromarray(stack[1])])
        case "a TIFF by another name":
            save_tiff(tmp_path / "a.tif", stack).rename(path)
    with pytest.raises(InputError, match=f"a.png' cannot be read as crops: got .*({got})"):
        read_crops(path)


def test_a_cmyk_jpeg_is_refused(tmp_path, stack):
    Image.fromarray(stack[0]).convert("CMYK").save(tmp_path / "a.jpg")
    with pytest.raises(InputError, match="mode CMYK"):
        read_crops(tmp_path / "a.jpg")


def test_a_picture_is_no_stack(tmp_path, stack):
    Image.fromarray(stack[0]).save(tmp_path / "a.png")
    with pytest.raises(InputError, match="type '.png'"):
        read_stack(tmp_path / "a.png")


def test_an_mha_may_carry_what_else_its_writer_knew(tmp_path, stack):
    image = sitk.GetImageFromArray(stack, isVector=True)
    for key, value in {"0008|0060": "SM", "made by": "a scanner = that", "Comment": "ElementDataFile = none"}.items():
        image.SetMetaData(key, value)
    sitk.WriteImage(image, str(tmp_path / "stack.mha"), useCompression=True)
    assert b"0008|0060" in (tmp_path / "stack.mha").read_bytes()
    np.testing.assert_array_equal(read_stack(tmp_path / "stack.mha"), stack)
