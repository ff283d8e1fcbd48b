"""DICOM annotations: their points and groups, read back by pydicom; a plain error for other slides."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mitoscope.cli import main
from mitoscope.errors import InputError
from mitoscope.images.slide import Mpp, Slide
from mitoscope.images.source import ArraySource
from mitoscope.slide.counts import Thresholds
from mitoscope.slide.export.dicom import NAME, find_level_0, write_annotations
from mitoscope.slide.figures import Figures

POINTS = np.array([[10.5, 20.25, 0.9], [30, 8, 0.8], [12, 40, 0.7], [5, 5, 0.1]])  # the last is below the threshold
FIGURES = Figures(POINTS, np.array([[0.9, 0.1, 0.2, 0.9]]), np.array([0.9, 0.1, 0.2, 0.9]), None, [""] * 4)
THRESHOLDS = Thresholds(0.5, 0.5)


def make_slide(path: Path, width_px: int = 64) -> Slide:
    return Slide(path, ArraySource(np.zeros((48, width_px, 3), np.uint8)), Mpp(0.25, 0.25, "tags"), ())


def write_header(path: Path, columns: int, kind: str, series: str) -> None:
    """What highdicom needs of a slide's file; without pixels."""
    dataset = pytest.importorskip("pydicom.dataset", reason="needs highdicom: pip install 'mitoscope[dicom]'")
    uid = pytest.importorskip("pydicom.uid")
    header = dataset.Dataset()
    header.SOPClassUID, header.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.77.1.6", uid.generate_uid()
    header.StudyInstanceUID, header.SeriesInstanceUID, header.FrameOfReferenceUID = "1.2.3", series, "1.2.3.9"
    header.PatientID, header.PatientName, header.Modality = "someone", "", "SM"
    for name in ("PatientBirthDate", "PatientSex", "StudyID", "AccessionNumber", "StudyDate", "StudyTime"):
        setattr(header, name, "")
    header.ImageType, header.ContainerIdentifier = ["ORIGINAL", "PRIMARY", kind, "NONE"], "slide"
    header.Rows, header.Columns, header.NumberOfFrames = 48, 48, 2
    header.TotalPixelMatrixColumns, header.TotalPixelMatrixRows = columns, 48
    header.SpecimenDescriptionSequence = []
    header.file_meta = dataset.FileMetaDataset()
    header.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    header.save_as(path, enforce_file_format=True)


def test_points_are_those_of_level_0(tmp_path: Path) -> None:
    ann: Any = pytest.importorskip("highdicom.ann", reason="needs highdicom: pip install 'mitoscope[dicom]'")
    for name, columns, kind, series in (("0.dcm", 64, "THUMBNAIL", "1.2"), ("1.dcm", 64, "VOLUME", "1.2"),
                                        ("2.dcm", 32, "VOLUME", "1.2"), ("3.dcm", 64, "VOLUME", "1.9")):  # fmt: skip
        write_header(tmp_path / name, columns, kind, series)
    slide = make_slide(tmp_path / "2.dcm")  # the user named another level
    write_annotations(tmp_path, find_level_0(slide), FIGURES, THRESHOLDS, {"detector": "a", "classifier": "b"}, "1.0")
    found = ann.annread(tmp_path / NAME)
    groups = found.get_annotation_groups()
    assert [group.label for group in groups] == ["mitotic figure: atypical", "mitotic figure: normal"]
    points = [np.vstack(group.get_graphic_data("2D")).tolist() for group in groups]
    assert points == [[[10.5, 20.25]], [[30, 8], [12, 40]]]
    names, values, _ = groups[1].get_measurements()
    assert [name.value for name in names] == ["p-mitosis", "p-atypical"]
    assert values == pytest.approx(np.array([[0.8, 0.1], [0.7, 0.2]]))
    [reference] = found.ReferencedImageSequence
    assert reference.ReferencedSOPInstanceUID == find_level_0(slide).SOPInstanceUID
    assert "not for clinical use" in found.ContentDescription
    write_annotations(
        tmp_path / "none", find_level_0(slide), FIGURES, Thresholds(0.95, 0.5), {}, "1.0"
    )  # nothing to write


def test_a_level_0_that_is_missing_is_one_line(tmp_path: Path) -> None:
    write_header(tmp_path / "2.dcm", 32, "VOLUME", "1.2")
    with pytest.raises(InputError, match=r"2\.dcm has no level 0 beside it: got no file of its series with 64 x 48"):
        find_level_0(make_slide(tmp_path / "2.dcm"))


def test_a_slide_of_another_format_is_a_plain_error(
    detector_bundle: Path, tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(np.full((300, 300, 3), 150, np.uint8)).save(tmp_path / "a.png", dpi=(101600, 101600))
    given = ["--detector", str(detector_bundle), "--classifier", str(tiny_bundle), "--device", "cpu"]
    assert main(["slide", str(tmp_path / "a.png"), "--out", str(tmp_path / "out"), "--dicom-ann", *given]) == 3
    assert "--dicom-ann cannot be used for a.png" in capsys.readouterr().err
    assert not (tmp_path / "out" / "a.png").exists()


def test_a_missing_highdicom_ends_the_run_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_header(tmp_path / "1.dcm", 64, "VOLUME", "1.2")
    monkeypatch.setitem(sys.modules, "highdicom", None)
    with pytest.raises(ModuleNotFoundError, match="highdicom"):
        find_level_0(make_slide(tmp_path / "1.dcm"))
