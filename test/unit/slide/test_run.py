"""Many slides: what is refused before the first, and what ends one of them alone."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from unit.slide.conftest import FIGURES

from mitoscope.classify.classifier import Classifier
from mitoscope.detect.detector import Detector
from mitoscope.errors import DataError
from mitoscope.images.slide import read_quickhash
from mitoscope.slide import run as module
from mitoscope.slide.run import FAILED_CODE, check_slides, run_slides

Truth = tuple[Detector, Classifier]


@pytest.fixture
def loaded(truth: Truth, monkeypatch: pytest.MonkeyPatch) -> Truth:
    """What the command loads."""
    monkeypatch.setattr(module.Detector, "load", lambda *_, **__: truth[0])
    monkeypatch.setattr(module.Classifier, "load", lambda *_, **__: truth[1])
    return truth


def save(path: Path, pixels: np.ndarray) -> Path:
    tifffile.imwrite(path, pixels, photometric="rgb", tile=(64, 64), resolution=(40000, 40000),
                     resolutionunit="CENTIMETER")  # fmt: skip
    return path


def read_table(out: Path) -> list[dict[str, Any]]:
    with (out / "slides.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_two_files_of_one_dicom_series_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashes = {"a_0.dcm": "1", "b_0.dcm": "2", "a_1.dcm": "1", "c.tif": None, "d.tif": None}
    monkeypatch.setattr(module, "read_quickhash", lambda path: hashes[path.name])
    slides = [tmp_path / name for name in hashes]
    with pytest.raises(DataError, match=r"two files belong to one slide: got a_0\.dcm and a_1\.dcm, expected each"):
        check_slides(slides, tmp_path / "out", None, None)
    check_slides(slides[:2] + slides[3:], tmp_path / "out", None, None)


def test_what_openslide_cannot_open_has_no_hash(tmp_path: Path) -> None:
    (tmp_path / "bad.dcm").write_bytes(b"no slide at all")
    plain = save(tmp_path / "a.tif", np.zeros((64, 64, 3), np.uint8))
    assert [read_quickhash(path) for path in (plain, tmp_path / "bad.dcm", tmp_path / "gone.svs")] == [None] * 3
