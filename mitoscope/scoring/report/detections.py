"""detections.csv, images and perhaps a truth → one HTML file: found, missed and wrong, and each image zoomable."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mitoscope.errors import DataError
from mitoscope.files import check_file, write_text
from mitoscope.images import CROP_PX
from mitoscope.images.slide import READERS, Slide, open_slide
from mitoscope.progress import progress
from mitoscope.provenance import describe_file, read_commit
from mitoscope.scoring.detection.evaluate import describe_group
from mitoscope.scoring.detection.regions import Region, make_groups
from mitoscope.scoring.detection.tables import (
    FIGURE,
    HARD_NEGATIVE,
    MICROMETRES,
    PIXELS,
    Detections,
    Scale,
    find_scales,
    join_truth,
    read_detections,
    read_truth,
)
from mitoscope.scoring.report.outcomes import (
    BELOW,
    FALSE_ALARM,
    FOUND,
    KINDS,
    KINDS_WITHOUT_TRUTH,
    LOOK_ALIKE,
    MISSED,
    UNCALLED,
    describe_points,
    judge_points,
    list_calls,
)
from mitoscope.scoring.report.page import encode_image, render
from mitoscope.scoring.report.zoom import count_tiles, cut_pyramid, describe_view, read_library

SCRIPTS = ("elements.js", "pages.js", "zoom.js", "points.js")
SEED = 0  # of the intervals, as evaluate's
CROP_MPP = 0.25  # of the crops: 32 µm a side
ZOOM_MPP = 0.5
METRICS = {  # by their keys in mitoscope.scoring.detection.metrics, and what they mean to a pathologist
    "f1_score": ("F1", "balance of precision and recall"),
    "precision": ("Precision", "share of the called figures that are right"),
    "recall": ("Recall", "share of the true figures that are found"),
    "AP": ("Average precision", "precision over all thresholds"),
}


def report_detections(
    detections_csv: Path,
    images: Sequence[Path],
    out: Path,
    *,
    truth: Path | None = None,
    threshold: float | None = None,
    mpp: float | None = None,
    zoom_mpp: float = ZOOM_MPP,
) -> None:
    """Write the page.

    Args:
        detections_csv: See `mitoscope.scoring.detection.tables.read_detections`.
        images: Files or folders. Files are all shown; of a folder those that the detections or the truth name.
        out: The HTML file; replaced if it is there. The same input gives the same bytes.
        truth: See `mitoscope.scoring.detection.tables.read_truth`; None: there is none.
        threshold: In [0, 1]; None: see `read_detections`.
        mpp: µm per pixel of every image; None: from the detections; for an image without any from its tags.
        zoom_mpp: µm per pixel of the zoomable images; at .25 the page is four times as large as at .5.

    Raises:
        MitoscopeError: A table or an image is unusable, or an image of the tables is missing.
    """
    check_file(out)
    detections, true = read_detections(detections_csv, threshold), _read_truth(truth)
    slides = _open(images, [*detections.table["image"], *true["image"]], find_scales(detections.table, mpp), mpp)
    regions = {region.image: region for region in _join(detections, true, slides, mpp)}
    rows, views = [], []
    total = sum(count_tiles(slide, zoom_mpp) for slide in slides.values())
    with progress(total, unit="tiles", what="reading images") as bar:
        for name, slide in slides.items():
            judged = _judge(regions[name], detections.table, true, truth is not None)
            kinds = KINDS if truth else KINDS_WITHOUT_TRUTH
            pyramid = cut_pyramid(slide, zoom_mpp, bar.update)
            places = judged[PIXELS].to_numpy()
            views.append(
                describe_view(name, pyramid, places, judged["kind"].to_numpy(), describe_points(judged, kinds))
            )
            listed = judged[~judged["kind"].isin([BELOW, LOOK_ALIKE] if truth else [UNCALLED])]
            crops = [encode_image(read_crop(slide, x, y)) for x, y in listed[PIXELS].to_numpy()]
            rows.append(listed.assign(view=len(views) - 1, crop=crops, case=regions[name].case, point=listed.index))
    data = _describe(pd.concat(rows, ignore_index=True), kinds, detections.threshold, views)
    words = _words(detections, truth, len(detections.list_unsearched(true)), list(regions.values()), rows)
    write_text(out, render(data, words, "detections.html.j2", SCRIPTS, read_library()))


def read_crop(
    slide: Slide, x_px: float, y_px: float, mpp: float = CROP_MPP, interpolation: str = "bicubic"
) -> np.ndarray:
    """The tissue around a place of level 0: uint8 (128, 128, 3) at ``mpp`` µm per px, white outside of the image."""
    sx, sy = slide.measure_scale(mpp)
    left, top = round(x_px / sx - CROP_PX / 2), round(y_px / sy - CROP_PX / 2)
    return slide.read(left, top, CROP_PX, CROP_PX, mpp, interpolation)


def _read_truth(truth: Path | None) -> pd.DataFrame:
    """The truth, or a table without a row."""
    if truth is not None:
        return read_truth(truth)
    return pd.DataFrame({name: pd.Series(dtype=object) for name in ("image", "label", "domain", "case", *PIXELS)})


def list_images(paths: Sequence[Path], named: Sequence[str]) -> dict[str, Path]:
    """Image files by name.

    Args:
        paths: Files, which are all taken, or folders.
        named: Those that are taken from the folders.

    Raises:
        DataError: Two have the same name, or a named one is missing.
    """
    wanted, found = set(named), dict[str, Path]()
    for path in paths:
        inside = sorted(each for each in path.iterdir() if each.suffix.lower() in READERS) if path.is_dir() else [path]
        for each in inside:
            if path.is_dir() and each.name not in wanted:
                continue
            if each.name in found:
                raise DataError(
                    "two images have the same name", got=each.name, expected="different names", remedy="name one only"
                )
            found[each.name] = each
    if missing := sorted(wanted - set(found)):
        raise DataError(
            f"{len(missing)} images of the tables are missing",
            got=f"no {missing[0]}",
            expected="every image that the tables name",
            remedy="name its file or folder after --images",
        )
    if not found:
        raise DataError(
            "there is no image to show", got="none", expected="at least one", remedy="name it after --images"
        )
    return found


def _open(
    images: Sequence[Path], named: Sequence[str], scales: Mapping[str, Scale], mpp: float | None
) -> dict[str, Slide]:
    """The images by name, in the order of their names; pixels that are not quite square are shown as if they were."""
    files = list_images(images, named)
    means = {name: sum(scale) / 2 for name, scale in scales.items()}
    return {name: open_slide(files[name], mpp or means.get(name)) for name in sorted(files)}


def _join(detections: Detections, true: pd.DataFrame, slides: Mapping[str, Slide], mpp: float | None) -> list[Region]:
    """A region for each image, also for those that no table names."""
    regions = join_truth([detections], true, mpp)[0] if len(true) else join_alone(detections)
    known = {region.image for region in regions}
    none = np.empty((0, 2))
    return regions + [
        Region(name, none, np.empty(0), np.empty(0, dtype=bool), none, none) for name in slides if name not in known
    ]


def join_alone(detections: Detections) -> list[Region]:
    """The regions of detections without a truth."""
    none = np.empty((0, 2))
    return [
        Region(
            image=str(image),
            points_mm=rows[MICROMETRES].to_numpy(np.float64) / 1000,
            p_mitosis=rows["p_mitosis"].to_numpy(),
            called=rows["p_mitosis"].to_numpy() >= detections.threshold,
            figures_mm=none,
            hard_negatives_mm=none,
        )
        for image, rows in detections.table.groupby("image", sort=False)
    ]


def _judge(region: Region, found: pd.DataFrame, true: pd.DataFrame, has_truth: bool) -> pd.DataFrame:
    """The rows of one image, the most probable first."""
    points_px = found.loc[found["image"] == region.image, PIXELS].to_numpy(np.float64)
    if not has_truth:
        return list_calls(region, points_px)
    figures, look_alikes = (
        true.loc[(true["image"] == region.image) & (true["label"] == label), PIXELS].to_numpy(np.float64)
        for label in (FIGURE, HARD_NEGATIVE)
    )
    return judge_points(region, points_px, figures, look_alikes)


def _describe(
    rows: pd.DataFrame, kinds: Sequence[Any], threshold: float, views: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """The data of the page's script."""
    columns = rows.astype(object).where(rows.notna(), None)
    names = ("x_px", "y_px", "p", "kind", "on_look_alike", "view", "case", "crop", "point")
    return {
        "threshold": threshold,
        "kinds": [asdict(kind) for kind in kinds],
        "views": list(views),
        **{name: columns[name].tolist() for name in names},
    }


def _words(
    detections: Detections,
    truth: Path | None,
    n_unsearched: int,
    regions: Sequence[Region],
    rows: Sequence[pd.DataFrame],
) -> dict[str, Any]:
    """What the template says."""
    judged = None
    if truth is not None:
        judged = describe_group(make_groups(regions, detections.threshold)[0], SEED)
    counts = pd.concat(rows)["kind"].value_counts()
    provenance = [(what, "{name}, sha256 {sha256}".format(**describe_file(path))) for what, path in
                  (("detections", detections.path), ("truth", truth)) if path is not None]  # fmt: skip
    return {
        "n_images": len(regions),
        "threshold": detections.threshold,
        "origin": detections.origin,
        "has_truth": truth is not None,
        "n_unsearched": n_unsearched,
        "n_called": int(sum(region.called.sum() for region in regions)),
        "counts": {name: int(counts.get(number, 0)) for name, number in
                   (("found", FOUND), ("false alarm", FALSE_ALARM), ("missed", MISSED))},
        "judged": judged,
        "metrics": _describe_metrics(judged) if judged else None,
        "images": [
            {"name": region.image, "n_called": int(region.called.sum()), "n_figures": len(region.figures_mm),
             "n_found": region.n_found, "case": region.case}
            for region in regions
        ],
        "provenance": [*provenance, ("report by code", read_commit())],
    }  # fmt: skip


def _describe_metrics(judged: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Name, meaning, value and interval of each metric."""
    intervals = judged["intervals"]["metrics"] if judged["intervals"] else {}
    return [
        {"name": name, "meaning": meaning, "value": judged[key], "interval": intervals.get(key)}
        for key, (name, meaning) in METRICS.items()
    ]
