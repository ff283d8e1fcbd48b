"""Mitotic figures as DICOM Microscopy Bulk Simple Annotations, for a slide that is DICOM itself (`--dicom-ann`).

Written by highdicom (Bridge et al., J. Digit. Imaging 35, 2022). Coordinates are pixels of the total pixel matrix of
level 0, continuous as here: the first pixel covers [0, 1).
"""

from pathlib import Path
from typing import Any

import numpy as np

from mitoscope.errors import InputError
from mitoscope.images.slide import Slide
from mitoscope.slide.counts import Thresholds
from mitoscope.slide.export.qupath import name_points
from mitoscope.slide.figures import Figures

NAME = "annotations.dcm"
SCHEME = "99MITOSCOPE"  # codes of our own: the standard has none for atypical mitotic figures
SUFFIX = ".dcm"


def find_level_0(slide: Slide) -> Any:  # noqa: ANN401 - pydicom's data set
    """The header of the DICOM file that holds a slide's level 0.

    Raises:
        InputError: The slide is not DICOM, or the file is not there.
        ModuleNotFoundError: highdicom is not installed.
    """
    if slide.path.suffix.lower() != SUFFIX:
        raise InputError(
            f"--dicom-ann cannot be used for {slide.path.name}",
            got=f"a slide of type {slide.path.suffix!r}",
            expected="a DICOM slide (.dcm)",
            remedy="leave it out: detections.csv and qupath.geojson hold the same figures",
        )
    import highdicom  # noqa: F401 - writes the annotations, after the work: a missing package ends the run here
    import pydicom

    own = pydicom.dcmread(slide.path, stop_before_pixels=True)
    size = (slide.width_px, slide.height_px)
    for path in [slide.path, *sorted(slide.path.parent.glob(f"*{SUFFIX}"))]:
        header = pydicom.dcmread(path, stop_before_pixels=True, force=True)
        found = (header.get("TotalPixelMatrixColumns"), header.get("TotalPixelMatrixRows"))
        is_volume = "VOLUME" in (header.get("ImageType") or ())  # not a thumbnail of the same size
        if header.get("SeriesInstanceUID") == own.SeriesInstanceUID and found == size and is_volume:
            return header
    raise InputError(
        f"{slide.path.name} has no level 0 beside it",
        got=f"no file of its series with {size[0]} x {size[1]} px",
        expected="all files of the slide in one folder",
        remedy="copy them together",
    )


def write_annotations(
    folder: Path,
    header: Any,  # noqa: ANN401 - pydicom's data set
    figures: Figures,
    thresholds: Thresholds,
    sources: dict[str, str],
    version: str,
) -> None:
    """Write annotations.dcm: the mitotic figures as points, one group a class, with their probabilities.

    Args:
        folder: Where.
        header: Of the slide, see `find_level_0`.
        figures: All points; those below the threshold are left out. Without any, no file is written: the format
            knows no empty annotation.
        thresholds: As for `mitoscope.slide.export.qupath.name_points`.
        sources: The names of the detector and the classifier.
        version: Of this program.
    """
    from highdicom import UID, AlgorithmIdentificationSequence
    from highdicom.ann import AnnotationGroup, Measurements, MicroscopyBulkSimpleAnnotations
    from pydicom.sr.codedict import codes
    from pydicom.sr.coding import Code

    p_mitosis, p_atypical = figures.points[:, 2], figures.p_atypical
    kinds = np.array(name_points(figures, thresholds))
    program = AlgorithmIdentificationSequence(
        name="mitoscope",
        version=version,
        family=codes.DCM.ArtificialIntelligence,
        parameters={"not for": "clinical use", **sources, "threshold": f"{thresholds.mitosis:g}"},
    )
    groups: list[AnnotationGroup] = []
    for kind in sorted({*kinds[p_mitosis >= thresholds.mitosis].tolist()}):
        chosen = kinds == kind
        values = {"p-mitosis": p_mitosis[chosen]}
        if not np.isnan(p_atypical[chosen]).any():
            values["p-atypical"] = p_atypical[chosen]
        groups.append(
            AnnotationGroup(
                number=len(groups) + 1,
                uid=UID(),
                label=kind,
                annotated_property_category=codes.SCT.MorphologicallyAbnormalStructure,
                annotated_property_type=Code(kind.replace("mitotic figure", "MF").replace(": ", "-"), SCHEME, kind),
                graphic_type="POINT",
                graphic_data=[point[None] for point in figures.points[chosen, :2]],
                algorithm_type="AUTOMATIC",
                algorithm_identification=program,
                measurements=[
                    Measurements(Code(name, SCHEME, name), each.astype(np.float32), codes.UCUM.NoUnits)
                    for name, each in values.items()
                ],
            )
        )
    if not groups:
        return
    annotations = MicroscopyBulkSimpleAnnotations(
        source_images=[header],
        annotation_coordinate_type="2D",
        annotation_groups=groups,
        series_instance_uid=UID(),
        series_number=1,
        sop_instance_uid=UID(),
        instance_number=1,
        manufacturer="mitoscope",
        manufacturer_model_name="mitoscope",
        software_versions=version,
        device_serial_number="none",
        content_label="MITOTIC_FIGURES",
        content_description="mitotic figures; not for clinical use",
    )
    annotations.save_as(folder / NAME)
