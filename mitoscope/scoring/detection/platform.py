"""The platform's own files of Track 1: predictions.json and ground_truth.json in, metrics.json out (MIDOG 2025).

The arithmetic is that of the challenge's evaluation container (DeepMicroscopy/MIDOG25_T1_evaluation_docker); it takes
besides what is refused here: an image without a result, an image twice, a probability outside [0, 1].
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mitoscope.errors import DataError
from mitoscope.scoring.detection.match import Array
from mitoscope.scoring.detection.points import CALLED, is_point, read_points, read_value
from mitoscope.scoring.detection.regions import Group, Region
from mitoscope.scoring.platform import RESTORE, check_same_images, find_results
from mitoscope.sockets import POINTS_NAME, REGION_SLUG

KINDS = ("hotspot", "challenging", "random")
SPELLED = {"f1_score": "f1"}  # the evaluator's name of a metric in a part


def is_track_1(ground_truth_json: Path) -> bool:
    """Whether a ground truth is Track 1's, an object by image, and not Track 2's, a list.

    Raises:
        DataError: It cannot be read.
    """
    return isinstance(read_value(ground_truth_json, "the ground truth of Track 1 or Track 2"), dict)


def find_points(predictions_json: Path) -> dict[str, Path]:
    """As `mitoscope.scoring.platform.find_results`, for Track 1."""
    return find_results(predictions_json, REGION_SLUG, Path(POINTS_NAME).stem)


def read_regions(results: dict[str, Path], ground_truth_json: Path) -> list[Region]:
    """Put each region's points beside its true figures.

    Args:
        results: As `find_points` gives them.
        ground_truth_json: ``{"007.tiff": {"annotations": [[x_mm, y_mm, 0], …], "tumor domain": 0, "roi type":
            "hotspot"}, …}``.

    Returns:
        The regions in the jobs' order, which decides the order of equally probable points.

    Raises:
        DataError: A file is no such file, the images are not the same in both, or the platform's evaluator would fail
            the submission for a point: another name, pixels instead of mm, a missing field.
    """
    truth = read_value(ground_truth_json, "an object by image")
    if not isinstance(truth, dict) or not truth:
        raise DataError(
            f"{ground_truth_json} cannot be read",
            got=f"a JSON {type(truth).__name__}" if truth else "no image",
            expected="an object by image",
            remedy=RESTORE,
        )
    check_same_images(results, truth)
    return [_make_region(image, path, truth[image], ground_truth_json) for image, path in results.items()]


def write_metrics(pooled: Group, domains: dict[str, Group], kinds: dict[str, Group]) -> dict[str, Any]:
    """The content of metrics.json, as the platform's evaluator writes it.

    Args:
        pooled: All regions.
        domains: By tumour domain.
        kinds: By kind of region; where there is one, all of `KINDS` are written, as the evaluator does.

    Returns:
        The file's content. AP is -1 without true figures, and FROC AUC None without points: the evaluator gets NaN,
        and the platform's JSON turns a NaN into null.
    """
    aggregates = dict(_spell(pooled))
    for name, group in domains.items():
        aggregates |= {f"tumor_{name}_{SPELLED.get(key, key)}": value for key, value in _spell(group).items()}
    empty = {"precision": 0.0, "recall": 0.0, "f1_score": 1.0, "froc_auc": None, "AP": -1.0}
    for name in dict.fromkeys([*KINDS, *kinds]) if kinds else ():
        values = _spell(kinds[name]) if name in kinds else empty
        aggregates |= {f"roi_type_{name}_{SPELLED.get(key, key)}": value for key, value in values.items()}
    return {"aggregates": aggregates, "results": [_describe(region) for region in pooled.regions]}


def _spell(group: Group) -> dict[str, float | None]:
    """One group's metrics in the evaluator's order."""
    found = group.metrics
    return {
        **{name: found[name] for name in ("precision", "recall", "f1_score", "froc_auc")},
        "AP": -1.0 if found["AP"] is None else found["AP"],
    }


def _describe(region: Region) -> dict[str, Any]:
    """One region's counts."""
    n_called, n_true = int(region.called.sum()), len(region.figures_mm)
    return {
        "image": region.image,
        "tumor_domain": region.domain,
        "roi_type": region.kind,
        "metrics": {
            "true_positives": region.n_found,
            "false_negatives": n_true - region.n_found,
            "false_positives": n_called - region.n_found,
        },
    }


def _make_region(image: str, path: Path, entry: object, truth_json: Path) -> Region:
    """One region, from its result and its entry in the ground truth."""
    try:
        annotations, domain, kind = (entry[key] for key in ("annotations", "tumor domain", "roi type"))  # type: ignore[index]
        good = isinstance(annotations, list) and all(is_point(each) and each[2] == 0 for each in annotations)
        good &= isinstance(domain, int | str) and kind in KINDS
    except (KeyError, TypeError):
        good = False
    if not good:
        raise DataError(
            f"the entry of {image!r} in {truth_json} is malformed",
            got=str(entry)[:120],
            expected=f"annotations ([x_mm, y_mm, 0] each), tumor domain and roi type ({', '.join(KINDS)})",
            remedy="correct the ground truth",
        )
    points = read_points(path, f"the result of {image!r}")
    return Region(
        image=image,
        points_mm=_take_xy([each["point"] for each in points]),
        p_mitosis=np.array([each["probability"] for each in points], dtype=np.float64),
        called=np.array([each["name"] == CALLED for each in points], dtype=bool),
        figures_mm=_take_xy(annotations),
        hard_negatives_mm=np.empty((0, 2)),
        domain=str(domain),
        kind=kind,
    )


def _take_xy(points: Sequence[Sequence[float]]) -> Array:
    """float64 (N, 2), without z."""
    return np.array([point[:2] for point in points], dtype=np.float64).reshape(-1, 2)
