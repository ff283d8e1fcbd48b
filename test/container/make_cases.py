"""Cases made of the fixture, for test.sh, which runs this in the image: another one, long and bad.

    make_cases.py CASES EXPECTED

CASES/fixture is a case; EXPECTED/fixture its result, if that is known. Track 2's other case is the reversed stack,
whose result is reversed; Track 1's is blank glass, on which there are no points. The long case is scored for seconds,
as long as one may be; the bad one is no case.
"""

import json
import sys
from pathlib import Path
from typing import Any

from PIL import Image

LONG = 1024  # pages: mitoscope.images.crops.PAGE_LIMIT
LONG_PX = (7200, 6000)  # of a region: 2.7 mm²
RESULT = "multiple-mitotic-figure-classification.json"
POINTS = "mitotic-figures.json"
NOTHING = {"name": "Points of interest", "type": "Multiple points", "points": [], "version": {"major": 1, "minor": 0}}


def main(cases: Path, expected: Path) -> None:
    [image] = (cases / "fixture/images").glob("*/*")
    (make_stacks if "stack" in image.parent.name else make_regions)(cases, expected, image)
    (cases / "bad").mkdir()


def make_stacks(cases: Path, expected: Path, stack: Path) -> None:
    pages = read_pages(stack)
    known = expected / "fixture" / RESULT
    records = json.loads(known.read_text(encoding="utf-8")) if known.exists() else None
    repeats = LONG // len(pages)
    for name, made, wanted in (
        ("reversed", pages[::-1], records and records[::-1]),
        ("long", pages * repeats, records and records * repeats),
    ):
        path = place(cases, name, stack)
        made[0].save(path, save_all=True, append_images=made[1:], dpi=(101600, 101600))
        if wanted is not None:
            write(expected / name / RESULT, wanted)


def make_regions(cases: Path, expected: Path, region: Path) -> None:
    [tissue] = read_pages(region)
    sheet = Image.new("RGB", LONG_PX)
    for x in range(0, sheet.width, tissue.width):
        for y in range(0, sheet.height, tissue.height):
            sheet.paste(tissue, (x, y))
    glass = Image.new("RGB", tissue.size, (243, 242, 244))
    for name, made in (("glass", glass), ("long", sheet)):
        made.save(place(cases, name, region), compression="jpeg", dpi=(101600, 101600))
    write(expected / "glass" / POINTS, NOTHING)


def place(cases: Path, name: str, image: Path) -> Path:
    """Where the image of a new case goes."""
    folder = cases / name / image.parent.relative_to(cases / "fixture")
    folder.mkdir(parents=True)
    (cases / name / "inputs.json").write_bytes((cases / "fixture/inputs.json").read_bytes())
    return folder / f"{name}.tiff"


def write(path: Path, content: Any) -> None:
    path.parent.mkdir()
    path.write_text(json.dumps(content), encoding="utf-8")


def read_pages(stack: Path) -> list[Image.Image]:
    with Image.open(stack) as image:
        pages = []
        for page in range(image.n_frames):
            image.seek(page)
            pages.append(image.copy())
    return pages


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
