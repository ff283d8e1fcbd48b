"""Images with YOLO's text files beside them: one line a box, ``class x y width height`` in shares of the image."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from PIL import Image

from mitoscope.errors import DataError
from mitoscope.scoring.detection.tables import FIGURE, HARD_NEGATIVE
from mitoscope.training.data.field_sources.layout import (
    POINT_COLUMNS,
    LabelledFields,
    list_images,
)

NAMES = "classes.txt"


def read_yolo(paths: Sequence[Path]) -> LabelledFields:
    """A folder of images and text files of the same names.

    Without ``classes.txt``, which names the classes line by line, class 0 is a mitotic figure and class 1 a look-alike.
    An image without a text file, or with an empty one, holds neither. Slides are not known.

    Raises:
        DataError: A line is not understood, a text file has no image, or two images share one.
    """
    option = "--yolo"
    folder, images = paths[0], list_images(paths[0], option)
    names = (folder / NAMES).read_text(encoding="utf-8").split("\n") if (folder / NAMES).is_file() else []
    classes = [name.strip() for name in names if name.strip()] or [FIGURE, HARD_NEGATIVE]
    source = folder.resolve().name
    fields = pd.DataFrame({"image_id": [f"{source}/{name}" for name in images], "path": map(str, images.values())})
    texts = {path.with_suffix(".txt"): name for name, path in images.items()}
    if twins := sorted(set(images) - set(texts.values())):
        raise DataError(
            f"{folder / twins[0]} has no text file of its own",
            got="another image of that name with another ending",
            expected="one image for each text file",
            remedy="rename one of them",
        )
    if orphans := sorted({path for path in folder.glob("*.txt") if path.name != NAMES} - texts.keys()):
        raise DataError(
            f"{orphans[0]} has no image", got="no image of that name", expected="one beside it", remedy="add it"
        )
    points = [
        (f"{source}/{name}", *point)
        for path, name in texts.items()
        if path.is_file()
        for point in _read_boxes(path, images[name], classes)
    ]
    fields = fields.assign(domain=None, case=None, source=source, read_mpp=float("nan"))
    return LabelledFields(fields, pd.DataFrame(points, columns=POINT_COLUMNS))


def _read_boxes(path: Path, image: Path, classes: Sequence[str]) -> list[tuple[float, float, str]]:
    """The centres of an image's boxes in its pixels, and their classes."""
    try:
        lines = [line.split() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        with Image.open(image) as opened:
            width, height = opened.size
        return [
            (float(x) * width, float(y) * height, classes[int(number)])
            for number, x, y, *_ in lines
            if int(number) >= 0
        ]
    except (OSError, ValueError, IndexError) as error:
        raise DataError(
            f"{path} cannot be read",
            got=error,
            expected=f"lines of a class from 0 to {len(classes) - 1}, x, y, width and height",
            remedy=f"correct it, or name its classes in {NAMES}",
        ) from error
