"""Tables of a detector that several tests share."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    """A folder with detections.csv and truth.csv of 12 images of 4 slides in 2 domains, and worse.csv of the same.

    Most figures are found, some look-alikes are called, and there are other false alarms. The threshold is 0.4.
    """
    random, true, found = np.random.default_rng(0), [], []
    for number in range(12):
        image, mpp = f"{number:02}.tiff", (0.2275, 0.25)[number % 2]
        figures, hard_negatives, others = (random.integers(100, 1400, (n, 2)) for n in (5, 4, 6))
        rest = (("breast", "lung")[number % 2], f"H{number // 3}")
        true += [(image, *figure, "mitotic figure", *rest) for figure in figures]
        true += [(image, *point, "hard negative", *rest) for point in hard_negatives]
        points = np.concatenate([figures[:4] + random.integers(-8, 9, (4, 2)), hard_negatives, others])
        chances = np.concatenate([random.beta(4, 2, 4), random.beta(2, 4, 4), random.beta(1, 5, 6)])
        found += [(image, *(point * mpp), *point, p) for point, p in zip(points, chances, strict=True)]
    columns = ["image", "x_px", "y_px", "label", "domain", "case"]
    pd.DataFrame(true, columns=columns).to_csv(tmp_path / "truth.csv", index=False)
    table = pd.DataFrame(found, columns=["image", "x_um", "y_um", "x_px", "y_px", "p_mitosis"]).round(4)
    table.to_csv(tmp_path / "detections.csv", index=False)
    noise = random.random(len(table))
    table.assign(p_mitosis=(0.6 * table["p_mitosis"] + 0.4 * noise).round(4)).to_csv(
        tmp_path / "worse.csv", index=False
    )
    return tmp_path
