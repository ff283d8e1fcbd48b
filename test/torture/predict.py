"""`mitoscope classify` killed and run again: the same bytes as an unbroken run."""

from pathlib import Path

import numpy as np
from PIL import Image

from torture.processes import LITE, End, Moment, each, measure, run, spread

CROPS = 48


def predict(crops: Path, out: Path, moment: Moment = lambda _: False, environment: str = "") -> End:
    """Score a folder with weights/lite."""
    arguments = ("--crops", crops, "--weights", LITE, "--out", out, "--device", "cpu")
    return run("-m", "mitoscope", "classify", *arguments, moment=moment, environment=environment)


def make_crops(folder: Path) -> Path:
    """A folder of smooth random crops as PNG."""
    random = np.random.default_rng(0)
    folder.mkdir()
    for number in range(CROPS):
        coarse = Image.fromarray(random.integers(60, 256, (8, 8, 3), dtype=np.uint8))
        coarse.resize((128, 128)).save(folder / f"{number:03}.png")
    return folder


def kill_predict(count: int, seed: int, workers: int, folder: Path) -> dict[str, int]:
    """Kill `mitoscope classify` at random moments, then run it to its end.

    Returns:
        Counts: ``cases``, ``hit`` (killed before its end), ``old`` and ``new`` predictions then, ``left_over`` files
        beside them; and ``wrong``: predictions that are neither, or after the second run others than the unbroken ones,
        or files that it did not remove.
    """
    crops, unbroken = make_crops(folder / "crops"), folder / "unbroken0" / "predictions.csv"
    seconds = measure(lambda worker: predict(crops, folder / f"unbroken{worker}" / unbroken.name), workers)
    new, moments, names = (
        unbroken.read_bytes(),
        spread(count, seconds, seed),
        {p.name for p in unbroken.parent.iterdir()},
    )
    older = new.replace(b"normal", b"atypical")

    def shoot(index: int) -> dict[str, int]:
        out = folder / str(index) / "predictions.csv"
        out.parent.mkdir()
        out.write_bytes(older)
        end = predict(crops, out, moments[index])
        found = out.read_bytes()
        left = bool({path.name for path in out.parent.iterdir()} - names)
        again = predict(crops, out)
        wrong = found not in (older, new) or again.code != 0 or out.read_bytes() != new
        wrong |= {path.name for path in out.parent.iterdir()} != names
        return {"cases": 1, "hit": end.code != 0, "old": found == older, "new": found == new,
                "left_over": left, "run_again": 1, "wrong": wrong}  # fmt: skip

    return each(shoot, count, workers)
