"""Files → uint8 crops. Every fault of a file is found here, from its header if possible.

Pillow reads TIFF, PNG and JPEG; `mha` reads MHA. No pixel is decoded before the number, size and type of all pages have
been checked: a page 10,000 px wide is refused, not loaded. Reading any file takes less than `MEMORY_LIMIT` more memory.
"""

import os
import warnings
from pathlib import Path

import numpy as np
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import (
    COMPRESSION,
    STRIPBYTECOUNTS,
    STRIPOFFSETS,
    TILEBYTECOUNTS,
    TILELENGTH,
    TILEOFFSETS,
    TILEWIDTH,
    TiffImageFile,
)

from mitoscope.errors import InputError
from mitoscope.files import describe_folder
from mitoscope.images import CROP_PX, PAGE_LIMIT
from mitoscope.images.mha import read_mha
from mitoscope.images.source import (
    DAMAGE,
    JPEG,
    PixelError,
    check_jpeg_end,
    check_picture,
    check_tiff_samples,
    measure_file,
)
from mitoscope.images.tiff import check_directories

LONGEST_PATH = 200  # in a message, which has 1,000 characters
MEMORY_LIMIT = 1 << 30  # bytes above what the process held before
STACK_BYTES = 128 << 20  # the most pages, RGBA and uncompressed, twice over
PICTURE_BYTES = 16 << 20  # a hundred crops
PAGE_BYTES = 1 << 20  # as stored: sixteen pages
TILE_PX = 1024  # libtiff keeps a whole tile, however little of it the page shows


def find_stack(folder: Path, *, root: Path | None = None) -> Path:
    """Find the one stack in a folder.

    Args:
        folder: Where the platform puts the image.
        root: The folder that a symbolic link must not leave; `folder` where it is not given.

    Returns:
        The only ``.tif``, ``.tiff`` or ``.mha`` (in any case of letters) in the folder.

    Raises:
        InputError: There is none, or more than one, or it lies outside of `root`.
    """
    try:
        stacks = sorted(path for path in folder.iterdir() if path.suffix.lower() in STACKS)
    except OSError:
        stacks = []
    if len(stacks) != 1:
        raise InputError(
            f"{'no image' if not stacks else f'{len(stacks)} images'} in {str(folder)!r}",
            got=describe_folder(folder),
            expected=f"exactly one of {', '.join(STACKS)}",
            remedy="put one image there",
        )
    place = Path(os.path.realpath(stacks[0]))  # resolve() raises on a link to itself
    if not place.is_relative_to(os.path.realpath(root or folder)):
        raise InputError(
            f"{stacks[0].name!r} is outside of the case's folder",
            got=f"a symbolic link to {str(place)!r}",
            expected=f"a file in {str(root or folder)!r}",
            remedy="copy the file instead of linking it",
        )
    return stacks[0]


def read_stack(path: Path) -> np.ndarray:
    """Read a stack of crops.

    Args:
        path: A TIFF of any compression that Pillow reads, or an MHA; 1 to 1,024 pages of 128 × 128 px, 8 bits a
            channel. Greyscale is repeated to RGB with a warning, a palette looked up, an alpha channel dropped
            without blending.

    Returns:
        uint8 (N, 128, 128, 3), RGB in [0, 255], in page order.

    Raises:
        InputError: The file is empty, damaged, of another format, or holds other pages.
    """
    if path.suffix.lower() not in STACKS:
        raise _fault(path, f"a file of type {path.suffix!r}", f"one of {', '.join(STACKS)}")
    crops = read_crops(path)
    n_grey = count_greyscale(crops)
    if n_grey:
        verb = "is" if n_grey == 1 else "are"
        message = f"{n_grey} of {len(crops)} pages {verb} greyscale: the networks were trained on H&E in colour"
        warnings.warn(message, stacklevel=2)
    return crops


def read_crops(path: str | Path) -> np.ndarray:
    """Read whatever crops a file holds: a stack as `read_stack` does, or the one crop of a PNG or JPEG.

    Args:
        path: A file of one of `READERS`' types; 128 × 128 px, 8 bits a channel. Greyscale is repeated to RGB in
            silence (see `count_greyscale`), a palette looked up, an alpha channel dropped without blending.

    Returns:
        uint8 (N, 128, 128, 3), RGB in [0, 255], in page order.

    Raises:
        InputError: The file is empty, damaged, of another format, or holds other pages.
    """
    path = Path(path)
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise _fault(path, f"a file of type {path.suffix!r}", f"one of {', '.join(READERS)}")
    limit = STACK_BYTES if path.suffix.lower() in STACKS else PICTURE_BYTES
    try:
        if (n_bytes := measure_file(path)) > limit:
            raise PixelError(f"a file of {n_bytes:,} bytes", f"at most {limit:,}")
        return reader(path)
    except PixelError as error:
        raise _fault(path, error.got, error.expected) from error
    except OSError as error:
        raise _fault(path, str(error), "a readable file") from error


def count_greyscale(crops: np.ndarray) -> int:
    """Count the crops with three equal channels; uint8 (N, 128, 128, 3)."""
    return int((crops == crops[..., :1]).all(axis=(1, 2, 3)).sum())


def _read_tiff(path: Path) -> np.ndarray:
    """All pages of a TIFF: uint8 (N, 128, 128, 3)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.filterwarnings("error", message=DAMAGE)
        try:
            check_directories(path)
            with TiffImageFile(path) as image:
                n_pages = _count_pages(image, path)
                return np.stack([_decode_page(image, page, path) for page in range(n_pages)])
        except (InputError, PixelError, MemoryError):
            raise
        except Exception as error:  # on a damaged file Pillow raises OSError, SyntaxError, TypeError and others
            raise _fault(path, _name_fault(error), f"a whole TIFF of at most {PAGE_LIMIT:,} pages") from error


def _name_fault(error: Exception) -> str:
    """Pillow's message, which explains itself; of other exceptions their type as well."""
    return str(error) if isinstance(error, OSError | SyntaxError) else f"{type(error).__name__}: {error}"


def _count_pages(image: TiffImageFile, path: Path) -> int:
    """Check the header of every page and count them; no pixel is decoded."""
    for page in range(PAGE_LIMIT + 1):
        try:
            image.seek(page)
        except EOFError:
            return page
        _check_page(image, path, page + 1)
    raise _fault(path, f"more than {PAGE_LIMIT} pages", f"1 to {PAGE_LIMIT} pages")


def _check_page(image: TiffImageFile, path: Path, number: int) -> None:
    """Refuse a page of another size or pixel type. Pillow's mode alone would hide 16-bit RGB, which it cuts to 8."""
    if image.size != (CROP_PX, CROP_PX):
        raise _fault(path, f"page {number} of {image.width} x {image.height} px", f"{CROP_PX} x {CROP_PX} px")
    tags = image.tag_v2
    if max(tags.get(TILEWIDTH, 0), tags.get(TILELENGTH, 0)) > TILE_PX:
        raise _fault(
            path, f"page {number} in tiles of {tags.get(TILEWIDTH)} x {tags.get(TILELENGTH)} px", "smaller ones"
        )
    n_bytes = sum((*tags.get(STRIPBYTECOUNTS, ()), *tags.get(TILEBYTECOUNTS, ())))
    if n_bytes > PAGE_BYTES:
        raise _fault(path, f"page {number} of {n_bytes:,} bytes", f"at most {PAGE_BYTES:,}")
    try:
        check_tiff_samples(image)
    except PixelError as error:
        raise _fault(path, f"page {number} of {error.got}", error.expected) from error


def _decode_page(image: TiffImageFile, page: int, path: Path) -> np.ndarray:
    """One page: uint8 (128, 128, 3)."""
    image.seek(page)
    tags = image.tag_v2
    if tags.get(COMPRESSION) == JPEG:
        names = (TILEOFFSETS, TILEBYTECOUNTS) if TILEOFFSETS in tags else (STRIPOFFSETS, STRIPBYTECOUNTS)
        with path.open("rb") as file:
            for offset, count in zip(*(tags.get(name, ()) for name in names), strict=True):
                file.seek(offset)
                check_jpeg_end(file.read(count))
    return np.asarray(image.convert("RGB"))


def _read_picture(path: Path) -> np.ndarray:
    """The one crop of a PNG or JPEG: uint8 (1, 128, 128, 3)."""
    kind = PngImageFile if path.suffix.lower() == ".png" else JpegImageFile
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with kind(path) as image:
                _check_picture(image, path)
                return np.asarray(image.convert("RGB"))[None]
        except (InputError, PixelError, MemoryError):
            raise
        except Exception as error:  # as for a TIFF
            raise _fault(path, _name_fault(error), "a whole PNG or JPEG") from error


def _check_picture(image: PngImageFile | JpegImageFile, path: Path) -> None:
    """Refuse another size, several frames, or samples that Pillow would cut to 8 bits."""
    if image.size != (CROP_PX, CROP_PX):
        raise _fault(path, f"{image.width} x {image.height} px", f"{CROP_PX} x {CROP_PX} px")
    check_picture(image)


def _read_mha(path: Path) -> np.ndarray:
    """All pages of an MHA, or the one page of an MHA without a page axis: uint8 (N, 128, 128, 3)."""
    pixels = read_mha(path)  # (N, 128, 128, 1, 3 or 4)
    return np.repeat(pixels, 3, axis=3) if pixels.shape[3] == 1 else pixels[..., :3].copy()


def _fault(path: Path, got: str, expected: str) -> InputError:
    """The error for a file that cannot be read as a stack."""
    return InputError(
        f"{str(path)[-LONGEST_PATH:]!r} cannot be read as crops",
        got=got[:300],
        expected=expected,
        remedy=f"write {CROP_PX} x {CROP_PX} px crops as 8-bit RGB: PNG, JPEG, or pages of one TIFF or MHA",
    )


STACKS = {".tif": _read_tiff, ".tiff": _read_tiff, ".mha": _read_mha}
READERS = {**STACKS, ".png": _read_picture, ".jpg": _read_picture, ".jpeg": _read_picture}
