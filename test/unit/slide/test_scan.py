"""The bar of a scan counts all tissue once, also on a small slide and after a restart."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from mitoscope.classify.classifier import Classifier
from mitoscope.detect.detector import Detector
from mitoscope.images.slide import open_slide
from mitoscope.progress import Progress, progress
from mitoscope.slide import scan as module
from mitoscope.slide.journal import Journal
from mitoscope.slide.overview import read_overview
from mitoscope.slide.tissue import find_tissue


def test_the_bar_ends_at_its_total(
    drawn: np.ndarray, truth: tuple[Detector, Classifier], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bars: list[Progress] = []

    @contextmanager
    def record(total: float, **options: Any) -> Iterator[Progress]:
        with progress(total, **options) as bar:
            bars.append(bar)
            yield bar

    monkeypatch.setattr(module, "progress", record)
    tifffile.imwrite(tmp_path / "a.tif", drawn, photometric="rgb", tile=(64, 64), resolution=(40000, 40000),
                     resolutionunit="CENTIMETER")  # fmt: skip
    slide = open_slide(tmp_path / "a.tif")
    tissue = find_tissue(slide, read_overview(slide))
    assert tissue.area_mm2 < 0.5
    with Journal(tmp_path / "tiles.jsonl", {}) as journal:
        whole = module.scan(truth[0], slide, tissue, journal, 0.05)
    lines = (tmp_path / "tiles.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "tiles.jsonl").write_text("".join(lines[:4]))  # three tiles
    with Journal(tmp_path / "tiles.jsonl", {}) as journal:
        resumed = module.scan(truth[0], slide, tissue, journal, 0.05)
    for bar in bars:
        assert bar.total == pytest.approx(tissue.area_mm2) and bar.n_done == pytest.approx(bar.total)
    assert whole.n_tiles > 3 and 0 < resumed.new_mm2 < whole.new_mm2
    assert whole.new_mm2 == pytest.approx(tissue.area_mm2)
