"""Many slides: what is refused before the first, and what ends one of them alone."""

import csv
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from unit.slide.conftest import FIGURES

from mitoscope.classify.classifier import Classifier
from mitoscope.detect.detector import Detector
from mitoscope.errors import DataError
from mitoscope.images.slide import Slide, read_quickhash
from mitoscope.slide import analyse as analyse_module
from mitoscope.slide import run as module
from mitoscope.slide.overview import Overview
from mitoscope.slide.run import FAILED_CODE, check_slides, run_slides
from mitoscope.slide.tissue import Tissue

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


def test_a_slide_too_large_for_the_memory_is_a_row_and_the_next_one_is_analysed(
    loaded: Truth, drawn: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slides = [save(tmp_path / name, drawn) for name in ("large.tif", "larger.tif", "a.tif")]
    find = analyse_module.find_tissue
    faults = {"large.tif": MemoryError(), "larger.tif": RuntimeError("DefaultCPUAllocator: can't allocate memory")}

    def run_out(slide: Slide, overview: Overview) -> Tissue:
        if slide.path.name in faults:
            raise faults[slide.path.name]
        return find(slide, overview)

    monkeypatch.setattr(analyse_module, "find_tissue", run_out)
    assert run_slides(slides, tmp_path / "out") == FAILED_CODE
    rows = read_table(tmp_path / "out")
    assert [row["state"] for row in rows] == ["failed", "failed", "finished"]
    assert all(row["reason"].startswith("out of memory") for row in rows[:2])
    assert rows[2]["n_mitotic_figures"] == str(len(FIGURES))
    faults["a.tif"] = RuntimeError("something else")
    with pytest.raises(RuntimeError, match="something else"):
        run_slides(slides, tmp_path / "new")


@pytest.mark.usefixtures("loaded")
def test_a_name_that_is_not_utf_8_is_a_row(
    drawn: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = save(tmp_path / "odd.tif", drawn).rename(tmp_path / os.fsdecode(b"sch\xf6n.tif"))
    assert run_slides([odd, save(tmp_path / "a.tif", drawn)], tmp_path / "out") == FAILED_CODE
    rows = read_table(tmp_path / "out")
    assert [(row["slide"], row["state"]) for row in rows] == [("sch\\udcf6n.tif", "failed"), ("a.tif", "finished")]
    assert "got a file name that is not UTF-8, expected UTF-8; rename the file" in rows[0]["reason"]
    assert "sch\\udcf6n.tif" in capsys.readouterr().err


@pytest.mark.usefixtures("loaded")
def test_a_failed_slide_says_that_its_folder_holds_older_results(
    drawn: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slide, earlier = save(tmp_path / "a.tif", drawn), "its folder holds the results of an earlier run"
    assert run_slides([slide], tmp_path / "out") == 0
    slide.write_bytes(b"no slide any more")
    assert run_slides([slide], tmp_path / "out") == FAILED_CODE
    assert read_table(tmp_path / "out")[0]["reason"].endswith(earlier)
    assert earlier in capsys.readouterr().err
    assert run_slides([slide], tmp_path / "new") == FAILED_CODE
    assert earlier not in read_table(tmp_path / "new")[0]["reason"]


@pytest.mark.parametrize("out", ["file", "file/below"])
def test_a_folder_that_cannot_be_made_is_refused_before_the_work(tmp_path: Path, out: str) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(DataError, match="--out cannot be used: got .*file.*: (File exists|Not a directory), expected"):
        run_slides([tmp_path / "a.tif"], tmp_path / out)
    assert (tmp_path / "file").read_text() == "mine"


def test_an_outline_that_is_not_there_is_refused_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"--region cannot be read: got no file .*gone\.geojson"):
        check_slides([tmp_path / "a.tif"], tmp_path / "out", None, tmp_path / "gone.geojson")
