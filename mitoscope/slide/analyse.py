"""One slide, from its file to its folder of results; broken off, it goes on where it was."""

import csv
import io
import resource
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mitoscope.bundle.manifest import Bundle
from mitoscope.bundle.read import MANIFEST
from mitoscope.classify.classifier import Classifier
from mitoscope.classify.task import CLASS_NAMES
from mitoscope.detect.detector import Detector
from mitoscope.errors import DataError, InputError
from mitoscope.files import hash_file, read_object, write_json, write_text, written_folder
from mitoscope.images.slide import Slide, open_slide
from mitoscope.provenance import describe_machine, hash_code, read_commit
from mitoscope.slide.counts import (
    ATYPICAL,
    NORMAL,
    Thresholds,
    count,
    find_in_hotspot,
    find_kinds,
    list_warnings,
    measure_sensitivity,
)
from mitoscope.slide.export.dicom import find_level_0, write_annotations
from mitoscope.slide.export.qupath import encode_slide, write_geojson
from mitoscope.slide.figures import Figures, classify
from mitoscope.slide.journal import Journal
from mitoscope.slide.overview import read_overview
from mitoscope.slide.region import read_region
from mitoscope.slide.report.page import render_slide
from mitoscope.slide.scan import Scan, scan
from mitoscope.slide.suitability import (
    describe_density,
    list_density_warnings,
    list_overview_warnings,
    list_scale_warnings,
)
from mitoscope.slide.tissue import Tissue, find_tissue

SUMMARY, DETECTIONS, PAGE = "summary.json", "detections.csv", "report.html"
FORMAT = 1
COLUMNS = ("image", "x_um", "y_um", "x_px", "y_px", "p_mitosis", "p_atypical", "class", "spread", "unlike", "hotspot")


@dataclass(frozen=True)
class Settings:
    """What decides the result, besides the slide and the weights.

    Attributes:
        mpp: µm per px that the user gave; None: from the tags.
        region: The user's outline of the tissue; None: it is found.
        floor: The least probability of a point in the result.
        dicom_ann: Write annotations.dcm, too; the slide must be DICOM.
    """

    mpp: float | None
    region: Path | None
    floor: float
    dicom_ann: bool = False


def analyse(path: Path, out: Path, detector: Detector, classifier: Classifier, settings: Settings) -> dict[str, Any]:
    """Analyse a slide.

    Writes out/summary.json, detections.csv, qupath.geojson (or .gz) and report.html, all or none. What is done is kept
    beside it, in .NAME.work, until then; and longer if something could not be read, so that the next start reads that
    alone.

    Args:
        path: The slide.
        out: Its folder; replaced if it exists.
        detector: Finds the figures.
        classifier: Finds which of them are atypical.
        settings: See there.

    Returns:
        The summary, and in ``was_finished`` whether it was there before, by the same weights, settings and code.

    Raises:
        MitoscopeError: The slide cannot be analysed.
        OSError: The results cannot be written.
    """
    started = time.perf_counter()
    _check_name(path)
    slide = open_slide(path, settings.mpp, may_assume=False)
    notes = list_scale_warnings(slide, detector.bundle, classifier.bundle)  # raises before the work
    header = find_level_0(slide) if settings.dicom_ann else None  # likewise
    mark = _make_mark(slide, detector, classifier, settings)
    work = out.with_name(f".{out.name}.work")
    if (finished := _read_finished(out, mark)) is not None:
        shutil.rmtree(work, ignore_errors=True)
        return finished | {"was_finished": True}
    overview = read_overview(slide)
    tissue = find_tissue(slide, overview) if settings.region is None else read_region(settings.region, slide)
    tissue_s = round(time.perf_counter() - started, 2)
    measured = detector.measure(slide, tissue.mask, tissue.mpp)
    notes += list_density_warnings(measured)
    notes += list_overview_warnings(overview, tissue)
    density = describe_density(measured)
    seen = mark | {"optical_density": density}  # other windows were unreadable: tiles must be looked at again
    with Journal(work / "tiles.jsonl", seen) as tiles, Journal(work / "figures.jsonl", mark) as crops:
        scanned = scan(detector, slide, tissue, tiles, settings.floor)
        points = detector.merge(slide, scanned.candidates, settings.floor)
        figures = classify(classifier, slide, points[tissue.contains(points)], crops)
    thresholds = Thresholds(detector.threshold, classifier.threshold)
    summary = {
        **_summarise(slide, tissue, figures, scanned, thresholds, settings, notes),
        "optical_density": density,
        "detector": _describe_bundle(detector.bundle),
        "classifier": _describe_bundle(classifier.bundle),
        "overview_unread_mm2": overview.damaged_mm2,
        "commit": read_commit(),
        "mark": mark,
        "run": {"machine": describe_machine(), "device": detector.device.type, "tissue_s": tissue_s},
    }
    with written_folder(out, work) as new:  # a process that is killed leaves nothing elsewhere
        write_text(new / DETECTIONS, _encode_csv(slide, figures, thresholds, summary["counts"]["hotspot"]))
        write_geojson(new, encode_slide(slide, figures, tissue, summary["counts"], thresholds))
        if header is not None:
            names = {name: summary[name]["name"] for name in ("detector", "classifier")}
            write_annotations(new, header, figures, thresholds, names, summary["commit"])
        write_text(new / PAGE, render_slide(slide, tissue, overview, figures, summary))
        summary["run"] |= _measure_run(scanned, figures, time.perf_counter() - started)
        write_json(new / SUMMARY, summary)
    if _is_whole(summary):
        shutil.rmtree(work, ignore_errors=True)
    return summary | {"was_finished": False}


def _check_name(path: Path) -> None:
    """Refuse a slide whose name cannot be written into results."""
    try:
        path.name.encode("utf-8")
    except UnicodeEncodeError:
        raise InputError(
            f"{path.name} cannot be named in the results",
            got="a file name that is not UTF-8",
            expected="UTF-8",
            remedy="rename the file",
        ) from None


def _measure_run(scanned: Scan, figures: Figures, seconds: float) -> dict[str, float]:
    """Seconds of this process, for summary.json; a slide that was broken off counts from its last start."""
    networks_s = scanned.network_s + figures.network_s
    times = {
        "seconds": seconds,
        "detecting_s": scanned.network_s,
        "classifying_s": figures.network_s,
        "reading_s": scanned.read_s + figures.read_s,  # of all threads, mostly while a network computes
        "share_in_networks": networks_s / seconds,
        "new_tissue_mm2": scanned.new_mm2,
        "peak_memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
    }
    return {name: round(value, 3) for name, value in times.items()}


def _make_mark(slide: Slide, detector: Detector, classifier: Classifier, settings: Settings) -> dict[str, Any]:
    """What the result depends on."""
    found = slide.path.stat()
    return {
        "format": FORMAT,
        "slide": {"name": slide.path.name, "n_bytes": found.st_size, "modified_ns": found.st_mtime_ns},
        "mpp": asdict(slide.mpp),
        "region_sha256": hash_file(settings.region) if settings.region else None,
        "floor": settings.floor,
        "dicom_ann": settings.dicom_ann,
        "detector_sha256": hash_file(detector.bundle.folder / MANIFEST),
        "classifier_sha256": hash_file(classifier.bundle.folder / MANIFEST),
        "precision": [detector.device.type, detector.precision, classifier.precision],
        "code_sha256": hash_code(),
    }


def _read_finished(out: Path, mark: Mapping[str, Any]) -> dict[str, Any] | None:
    """The summary of a finished slide with the same mark; None if there is none, or if not all of it could be read."""
    if not all((out / name).is_file() for name in (SUMMARY, DETECTIONS, PAGE)):
        return None
    try:
        summary = read_object(out / SUMMARY, "delete it", ("mark", "counts", "tiles", "overview_unread_mm2"))
    except DataError:
        return None
    return summary if summary["mark"] == mark and _is_whole(summary) else None


def _is_whole(summary: Mapping[str, Any]) -> bool:
    """Whether every tile, the crop of every mitotic figure and the overview could be read."""
    unclassified = summary["counts"]["atypical"]["n_unclassified"]
    return not (summary["tiles"]["n_unread"] or unclassified or summary["overview_unread_mm2"])


def _summarise(
    slide: Slide,
    tissue: Tissue,
    figures: Figures,
    scanned: Scan,
    thresholds: Thresholds,
    settings: Settings,
    notes: list[str],
) -> dict[str, Any]:
    """What was found, for summary.json."""
    unread_mm2 = [fault.tissue_mm2 for fault in scanned.faults]
    read = tissue.without([fault.measure_box_um(slide.mpp) for fault in scanned.faults]) if scanned.faults else tissue
    counts = count(figures, tissue, thresholds, read)
    warnings = [*slide.notes, *notes, *list_warnings(counts, figures, thresholds, unread_mm2)]
    return {
        "format": FORMAT,
        "not_for": "clinical use",
        "slide": {
            "name": slide.path.name,
            "width_px": slide.width_px,
            "height_px": slide.height_px,
            "mpp": asdict(slide.mpp),
            "bounds_px": list(slide.bounds_px),
            "notes": list(slide.notes),
        },
        "tissue": {"source": tissue.source, "area_mm2": tissue.area_mm2, "mask_mpp": tissue.mpp},
        "thresholds": asdict(thresholds),
        "floor": settings.floor,
        "counts": counts,
        "sensitivity": measure_sensitivity(figures, tissue, thresholds, read, settings.floor),
        "n_points": len(figures.points),
        "tiles": {
            "n_with_tissue": scanned.n_tiles,
            "n_unread": len(scanned.faults),
            "unread": [asdict(fault) for fault in scanned.faults],
        },
        "warnings": warnings,
    }


def _describe_bundle(bundle: Bundle) -> dict[str, Any]:
    """A bundle for the summary."""
    return {
        "name": bundle.name,
        "architecture": bundle.architecture,
        "manifest_sha256": hash_file(bundle.folder / MANIFEST),
        "members": [
            {"file": member.file, "sha256": member.sha256, "fold": member.fold, "metrics": dict(member.metrics)}
            for member in bundle.members
        ],
        "out_of_fold": bundle.training.get("out_of_fold"),
        "threshold": bundle.threshold.value,
        "rule": bundle.threshold.rule,
        "asked_mpp": bundle.input.mpp,
    }


def _encode_csv(slide: Slide, figures: Figures, thresholds: Thresholds, hotspot: dict[str, Any] | None) -> str:
    """detections.csv: all points, the most probable first. A point that is no mitotic figure has no class."""
    inside = find_in_hotspot(figures.points, (slide.mpp.x, slide.mpp.y), hotspot)
    inside &= figures.points[:, 2] >= thresholds.mitosis
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    kinds = find_kinds(figures, thresholds).tolist()
    for number, (x, y, p) in enumerate(figures.points.tolist()):
        p_atypical, members = figures.p_atypical[number], figures.members[:, number]
        is_known = not np.isnan(p_atypical)
        kind = CLASS_NAMES[kinds[number]] if kinds[number] in (NORMAL, ATYPICAL) else ""
        writer.writerow([
            slide.path.name, f"{x * slide.mpp.x:.3f}", f"{y * slide.mpp.y:.3f}", f"{x:.2f}", f"{y:.2f}", f"{p:.6f}",
            f"{p_atypical:.6f}" if is_known else "", kind, f"{np.ptp(members):.6f}" if is_known else "",
            "; ".join(figures.unlike[number]) if figures.unlike else "", int(inside[number]),
        ])  # fmt: skip
    return text.getvalue()
