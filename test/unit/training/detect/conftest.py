"""Fields in memory: each slide is 192 × 160 px of tissue-like noise, with dark spots where its points are."""

import numpy as np
import pandas as pd
import pytest

from mitoscope.training.data.fields import FieldData

FIGURE, HARD = "mitotic figure", "hard negative"
WIDTH, HEIGHT = 192, 160
# Data set, slide, figures, look-alikes.
SLIDES = (
    *(("A", "a1", 3, 2), ("A", "a2", 1, 5), ("A", "a3", 8, 0)),
    *(("B", "b1", 5, 1), ("B", "b2", 2, 0)),
    ("C", "c1", 1, 3),
)


@pytest.fixture(scope="session")
def fields() -> FieldData:
    random = np.random.default_rng(0)
    images, rows, points = [], [], []
    for source, case, n_figures, n_hard in SLIDES:
        image = random.normal((225, 180, 205), 6, (HEIGHT, WIDTH, 3)).clip(0, 255).astype(np.uint8)
        for label in [FIGURE] * n_figures + [HARD] * n_hard:
            x, y = random.integers(12, WIDTH - 12), random.integers(12, HEIGHT // 2 - 12)  # the lower half holds none
            image[y - 3 : y + 3, x - 3 : x + 3] = (70, 40, 110) if label == FIGURE else (120, 90, 150)
            points.append((f"{source}/{case}", x, y, label))
        images.append(image)
        rows.append((f"{source}/{case}", "", FIGURE, None, case, source, WIDTH, HEIGHT, 0.5, 0.25, case))
    names = ["image_id", "path", "label", "domain", "case", "source", "width_px", "height_px", "mpp", "read_mpp"]
    table = pd.DataFrame(rows, columns=[*names, "sha256"])
    marks = pd.DataFrame(points, columns=["image_id", "x_px", "y_px", "label"])
    return FieldData(table, marks, np.concatenate([image.ravel() for image in images]))
