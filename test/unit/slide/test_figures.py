"""Figures and their crops: what another start takes over, and what is kept in memory."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from unit.slide.conftest import FIGURES, N_ATYPICAL

from mitoscope.classify.classifier import Classifier
from mitoscope.detect.detector import Detector
from mitoscope.images.slide import Slide, open_slide
from mitoscope.slide import figures as module
from mitoscope.slide.figures import classify
from mitoscope.slide.journal import Journal

POINTS = np.array([(x + 0.5, y + 0.5, 0.9 - 0.01 * number) for number, (x, y) in enumerate(FIGURES)])


@pytest.fixture
def slide(tmp_path: Path, drawn: np.ndarray) -> Slide:
    tifffile.imwrite(tmp_path / "a.tif", drawn, photometric="rgb", tile=(64, 64), resolution=(40000, 40000),
                     resolutionunit="CENTIMETER")  # fmt: skip
    return open_slide(tmp_path / "a.tif")


def test_figures_keep_their_own_crop_when_a_new_one_comes_before_them(
    slide: Slide, truth: tuple[Detector, Classifier], tmp_path: Path
) -> None:
    """A tile that can be read after all adds figures, and so all later ones have other numbers."""
    with Journal(tmp_path / "figures.jsonl", {}) as journal:
        classify(truth[1], slide, POINTS[1:], journal)
    with Journal(tmp_path / "figures.jsonl", {}) as journal:
        resumed = classify(truth[1], slide, POINTS, journal)
    with Journal(tmp_path / "fresh.jsonl", {}) as journal:
        fresh = classify(truth[1], slide, POINTS, journal)
    assert (fresh.p_atypical >= truth[1].threshold).sum() == N_ATYPICAL
    assert (resumed.p_atypical == fresh.p_atypical).all() and (resumed.members == fresh.members).all()
    assert resumed.images == fresh.images
