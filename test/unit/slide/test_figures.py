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


def test_only_crops_that_the_page_can_show_are_kept_and_one_that_moves_up_is_read_again(
    slide: Slide, truth: tuple[Detector, Classifier], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_CARDS", 3)
    with Journal(tmp_path / "figures.jsonl", {}) as journal:
        found = classify(truth[1], slide, POINTS, journal)
        assert sum(bool(part["image"]) for part in journal.done.values()) == 3
    assert all(found.images[:3]) and found.images[3:] == [""] * (len(POINTS) - 3)
    assert not np.isnan(found.p_atypical).any()
    with Journal(tmp_path / "figures.jsonl", {}) as journal:
        moved = classify(truth[1], slide, POINTS[2:], journal)
    assert all(moved.images[:3]) and not any(moved.images[3:])
    assert (moved.p_atypical == found.p_atypical[2:]).all() and moved.images[0] == found.images[2]
