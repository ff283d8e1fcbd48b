"""Cases made of the fixture, for test.sh, which runs this in the image: reversed, long and bad.

    make_cases.py CASES EXPECTED

CASES/fixture is a case and EXPECTED/fixture its result. The reversed stack has the reversed result; the long one is
scored for seconds, as long as a case may be; the bad one is no case.
"""

import json
import sys
from pathlib import Path

from PIL import Image

LONG = 1024  # pages: mitoscope.images.crops.PAGE_LIMIT
RESULT = "multiple-mitotic-figure-classification.json"


def main(cases: Path, expected: Path) -> None:
    [stack] = (cases / "fixture/images").glob("*/*")
    pages = read_pages(stack)
    records = json.loads((expected / "fixture" / RESULT).read_text(encoding="utf-8"))
    repeats = LONG // len(pages)
    for name, made, wanted in (
        ("reversed", pages[::-1], records[::-1]),
        ("long", pages * repeats, records * repeats),
    ):
        folder = cases / name / stack.parent.relative_to(cases / "fixture")
        folder.mkdir(parents=True)
        made[0].save(folder / f"{name}.tiff", save_all=True, append_images=made[1:], dpi=(101600, 101600))
        (cases / name / "inputs.json").write_bytes((cases / "fixture/inputs.json").read_bytes())
        (expected / name).mkdir()
        (expected / name / RESULT).write_text(json.dumps(wanted), encoding="utf-8")
    (cases / "bad").mkdir()


def read_pages(stack: Path) -> list[Image.Image]:
    with Image.open(stack) as image:
        pages = []
        for page in range(image.n_frames):
            image.seek(page)
            pages.append(image.copy())
    return pages


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
