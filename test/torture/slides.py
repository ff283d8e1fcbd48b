"""`mitoscope slide` killed again and again: it goes on, and ends with the result of an unbroken run."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from torture.processes import LITE, ROOT, End, Moment, each, run, when

DETECTOR = ROOT / "weights" / "detector-lite"
REGION = ROOT / "test" / "input" / "region0" / "images" / "histopathology-roi-cropout"
SIDE = 3  # copies of the region along each axis: four tiles
KILLS = 5  # of one slide, before it may go on to its end
LONGEST_DELAY_S = 1.0


def make_slide(path: Path) -> Path:
    """The drawn region, nine times side by side, as PNG with .25 µm per px."""
    with Image.open(next(REGION.glob("*.tiff"))) as image:
        region = np.asarray(image.convert("RGB"))
    Image.fromarray(np.tile(region, (SIDE, SIDE, 1))).save(path, dpi=(101600, 101600), compress_level=1)
    return path


def count(slide: Path, out: Path, moment: Moment = lambda _: False) -> End:
    """Count a slide by the weights in git."""
    arguments = (slide, "--out", out, "--detector", DETECTOR, "--classifier", LITE, "--device", "cpu")
    return run("-m", "mitoscope", "slide", *arguments, moment=moment)


def kill_slide(shots: int, seed: int, workers: int, folder: Path) -> dict[str, int]:
    """Kill `mitoscope slide` `shots` times, up to five times a slide, and let each slide end.

    Each shot waits until its process has done a random number of tiles and crops more, and then a random time; every
    third waits until the results are being written.

    Returns:
        Counts: ``cases`` (slides), ``hit`` (kills), ``writing`` (of these, with results half written), ``resumed``
        (starts after a kill that had something to go on from); and ``wrong``: a slide that did not end, whose result is
        not the unbroken one, or beside which something is left.
    """
    slide = make_slide(folder / "slide.png")
    count(slide, folder / "unbroken")
    new = _result(folder / "unbroken" / slide.name)

    def torture(index: int) -> dict[str, int]:
        out, random = folder / str(index), np.random.default_rng((seed, index))
        counts = {"cases": 1, "hit": 0, "writing": 0, "resumed": 0}
        for shot in range(min(KILLS, shots - index * KILLS)):
            is_writing = shot % 3 == 2
            found = partial(_is_writing, out) if is_writing else _Progress(out, int(random.integers(0, 4)))
            delay_s = float(random.random()) * (0.05 if is_writing else LONGEST_DELAY_S)
            before = _lines(out)
            killed = count(slide, out, when(found, delay_s)).code != 0
            counts["hit"] += killed
            counts["writing"] += killed and _is_writing(out)
            counts["resumed"] += killed and before > 0
        wrong = count(slide, out).code != 0 or not new or _result(out / slide.name) != new
        wrong |= {path.name for path in out.iterdir()} != {slide.name, "slides.csv"}
        return {**counts, "wrong": wrong}

    return each(torture, -(-shots // KILLS), workers)


class _Progress:
    """Whether a process has done some parts more than those before it."""

    def __init__(self, out: Path, more: int) -> None:
        self.out, self.goal = out, _lines(out) + more

    def __call__(self) -> bool:
        return _lines(self.out) >= self.goal


def _lines(out: Path) -> int:
    """The finished parts of a slide."""
    return sum(path.read_bytes().count(b"\n") for path in out.glob(".*.work/*.jsonl"))


def _is_writing(out: Path) -> bool:
    """Whether a folder of results is half written."""
    return any(path.is_dir() for path in out.glob(".*.work/.*"))


def _result(folder: Path) -> list[Any]:
    """What must be the same; nothing for an unfinished slide."""
    if not (folder / "summary.json").is_file():
        return []
    summary = json.loads((folder / "summary.json").read_bytes())
    names = ("detections.csv", "qupath.geojson", "report.html")
    return [{**summary, "run": None}, *((folder / name).read_bytes() for name in names)]
