"""PNG and JPEG as a slide's source: one block, since neither can be decoded in parts."""

import warnings
from pathlib import Path

from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from mitoscope.images.source import (
    PICTURE_BYTES,
    PixelError,
    check_block,
    check_picture,
    check_size,
    measure_file,
)

UM_PER_INCH = 25_400.0


class PictureSource:
    """See `mitoscope.images.source.Source`."""

    def __init__(self, path: Path) -> None:
        if (n_bytes := measure_file(path)) > PICTURE_BYTES:
            raise PixelError(f"a file of {n_bytes:,} bytes", f"at most {PICTURE_BYTES:,}")
        self._path = path
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with self._open() as image:
                check_size(*image.size)
                check_block(image.size)
                check_picture(image)
        self.width_px, self.height_px = self.block_px = image.size
        self.is_grey = image.mode in ("L", "LA")
        dots = image.info.get("dpi")
        self.mpp = (UM_PER_INCH / float(dots[0]), UM_PER_INCH / float(dots[1])) if dots and all(dots) else None

    def read_block(self, column: int, row: int) -> Image.Image:
        """The whole picture."""
        with self._open() as image:
            image.load()
        image.info.pop("transparency", None)  # dropped, as an alpha channel is
        return image

    def _open(self) -> PngImageFile | JpegImageFile:
        """The picture, of which only the header is read."""
        return (PngImageFile if self._path.suffix.lower() == ".png" else JpegImageFile)(self._path)
