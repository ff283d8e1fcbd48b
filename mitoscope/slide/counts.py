"""What is counted on a slide, and how sure it is. Areas are mm², never high-power fields."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.stats import binomtest

from mitoscope.slide.figures import Figures
from mitoscope.slide.hotspot import AREA_MM2, Circle, Rectangle, find_circle, find_rectangle
from mitoscope.slide.tissue import Tissue

FEW_FIGURES = 10  # with fewer, a share says next to nothing
STEP = 0.1  # of the thresholds in the table of sensitivity
WHOLE_SHARE = 0.9  # of a hotspot that should be tissue


@dataclass(frozen=True)
class Thresholds:
    """From which probability on a point is a mitotic figure, and a mitotic figure atypical."""

    mitosis: float
    atypical: float


def count(figures: Figures, tissue: Tissue, thresholds: Thresholds, read_mm2: float) -> dict[str, Any]:
    """Count at two thresholds.

    Args:
        figures: The points.
        tissue: The tissue.
        thresholds: The thresholds.
        read_mm2: Tissue that could be read.

    Returns:
        ``n_mitotic_figures``, ``tissue_mm2``, ``read_mm2``, ``per_mm2`` (of the tissue that could be read),
        ``atypical`` (see `describe_share`), and ``hotspot`` and ``hotspot_circle``: None without figures, else the
        window in µm from the slide's upper left corner, its ``n_figures``, ``tissue_mm2``, ``atypical``.
    """
    is_mitotic = figures.points[:, 2] >= thresholds.mitosis
    points_um = figures.points[is_mitotic, :2] * np.array(tissue.slide_mpp)
    p_atypical = figures.p_atypical[is_mitotic]
    rectangle = find_rectangle(points_um, tissue.measure_box_mm2)
    circle = find_circle(points_um)
    return {
        "n_mitotic_figures": int(is_mitotic.sum()),
        "tissue_mm2": tissue.area_mm2,
        "read_mm2": read_mm2,
        "per_mm2": float(is_mitotic.sum() / read_mm2),
        "atypical": describe_share(p_atypical, thresholds.atypical),
        "hotspot": _describe_rectangle(rectangle, points_um, p_atypical, tissue, thresholds),
        "hotspot_circle": _describe_circle(circle, points_um, p_atypical, thresholds),
    }


def describe_share(p_atypical: np.ndarray, threshold: float) -> dict[str, Any]:
    """The share of atypical figures.

    Args:
        p_atypical: float (N,), of the mitotic figures; NaN where the crop could not be read.
        threshold: Of the classifier.

    Returns:
        ``n_figures`` (classified), ``n_atypical``, ``share`` and ``interval`` (95 %, Wilson, J. Am. Stat. Assoc. 22,
        1927), both None without figures, ``few``: whether there are fewer than `FEW_FIGURES`, and ``n_unclassified``.
    """
    known = p_atypical[~np.isnan(p_atypical)]
    n_atypical, n_figures = int((known >= threshold).sum()), len(known)
    interval = None
    if n_figures:
        wilson = binomtest(n_atypical, n_figures).proportion_ci(method="wilson")
        interval = [float(wilson.low), float(wilson.high)]
    return {
        "n_figures": n_figures,
        "n_atypical": n_atypical,
        "share": n_atypical / n_figures if n_figures else None,
        "interval": interval,
        "few": n_figures < FEW_FIGURES,
        "n_unclassified": len(p_atypical) - n_figures,
    }


def measure_sensitivity(
    figures: Figures, tissue: Tissue, thresholds: Thresholds, read_mm2: float, floor: float
) -> list[dict[str, Any]]:
    """Count again at lower and higher thresholds.

    Returns:
        One row for each pair: ``threshold_mitosis``, ``threshold_atypical``, ``n_mitotic_figures``, ``per_mm2``,
        ``n_hotspot``, ``n_hotspot_circle``, ``n_atypical``, ``share``, ``n_atypical_hotspot``, ``share_hotspot`` and
        ``is_used``, which marks the bundles' own. Hotspots are found again for each threshold.
    """
    rows = []
    for mitosis in _list_steps(thresholds.mitosis, floor):
        is_mitotic = figures.points[:, 2] >= mitosis
        points_um = figures.points[is_mitotic, :2] * np.array(tissue.slide_mpp)
        window = find_rectangle(points_um, tissue.measure_box_mm2)
        circle = find_circle(points_um)
        p_atypical = figures.p_atypical[is_mitotic]
        inside = choose_inside(points_um, window) if window else np.zeros(0, bool)
        for atypical in _list_steps(thresholds.atypical, 0.0):
            share, within = (describe_share(some, atypical) for some in (p_atypical, p_atypical[inside]))
            rows.append(
                {
                    "threshold_mitosis": mitosis,
                    "threshold_atypical": atypical,
                    "n_mitotic_figures": len(points_um),
                    "per_mm2": len(points_um) / read_mm2,
                    "n_hotspot": window.n_figures if window else 0,
                    "n_hotspot_circle": circle.n_figures if circle else 0,
                    "n_atypical": share["n_atypical"],
                    "share": share["share"],
                    "n_atypical_hotspot": within["n_atypical"],
                    "share_hotspot": within["share"],
                    "is_used": Thresholds(mitosis, atypical) == thresholds,
                }
            )
    return rows


def list_warnings(
    counted: dict[str, Any], figures: Figures, thresholds: Thresholds, unread_mm2: Sequence[float]
) -> list[str]:
    """What a reader of the counts must know, one sentence each."""
    found = []
    if unread_mm2:
        found.append(
            f"{len(unread_mm2)} tiles could not be read: figures in {sum(unread_mm2):.2f} mm² of tissue are not counted"
        )
    share = counted["atypical"]
    if share["few"]:
        found.append(f"only {share['n_figures']} figures were classified: the share of atypical ones is not reliable")
    if share["n_unclassified"]:
        found.append(f"{share['n_unclassified']} mitotic figures could not be classified: their pixels are damaged")
    hotspot = counted["hotspot"]
    if hotspot and hotspot["atypical"]["few"] and not share["few"]:
        found.append(
            f"only {hotspot['atypical']['n_figures']} figures of the hotspot were classified: the share there is not "
            "reliable"
        )
    if hotspot and counted["tissue_mm2"] < AREA_MM2:
        found.append(
            f"all tissue, {counted['tissue_mm2']:.2f} mm², is less than a hotspot of {AREA_MM2} mm²: no part of it can "
            "be called the densest; compare figures per mm²"
        )
    elif hotspot and hotspot["tissue_mm2"] < WHOLE_SHARE * AREA_MM2:
        found.append(
            f"only {hotspot['tissue_mm2']:.2f} mm² of the hotspot's {AREA_MM2} mm² are tissue: compare figures per mm²"
        )
    mitotic = figures.points[:, 2] >= thresholds.mitosis
    n_unlike = sum(bool(names) for names, is_one in zip(figures.unlike or [], mitotic.tolist(), strict=False) if is_one)
    if n_unlike > mitotic.sum() / 2:
        found.append(f"{n_unlike} of {mitotic.sum()} figures are unlike the training crops: stain or scanner differ")
    return found


def _describe_rectangle(
    found: Rectangle | None, points_um: np.ndarray, p_atypical: np.ndarray, tissue: Tissue, thresholds: Thresholds
) -> dict[str, Any] | None:
    """The hotspot for the summary."""
    if found is None:
        return None
    right, bottom = found.left_um + found.width_um, found.top_um + found.height_um
    inside = choose_inside(points_um, found)
    return {
        **asdict(found),
        "area_mm2": AREA_MM2,
        "tissue_mm2": tissue.measure_box_mm2(found.left_um, found.top_um, right, bottom),
        "atypical": describe_share(p_atypical[inside], thresholds.atypical),
    }


def _describe_circle(
    found: Circle | None, points_um: np.ndarray, p_atypical: np.ndarray, thresholds: Thresholds
) -> dict[str, Any] | None:
    """The circular hotspot for the summary."""
    if found is None:
        return None
    inside = np.hypot(points_um[:, 0] - found.x_um, points_um[:, 1] - found.y_um) <= found.radius_um + 1e-3
    share = describe_share(p_atypical[inside], thresholds.atypical)
    return {**asdict(found), "area_mm2": AREA_MM2, "atypical": share}


def choose_inside(points_um: np.ndarray, window: Rectangle) -> np.ndarray:
    """Which points lie in a window, its border included: float (N, 2) → bool (N,)."""
    x, y = points_um[:, 0] - window.left_um, points_um[:, 1] - window.top_um
    slack = 1e-3
    inside: np.ndarray = (
        (x >= -slack) & (x <= window.width_um + slack) & (y >= -slack) & (y <= window.height_um + slack)
    )
    return inside


def find_in_hotspot(points: np.ndarray, mpp: tuple[float, float], hotspot: dict[str, Any] | None) -> np.ndarray:
    """Which points lie in the hotspot of a summary.

    Args:
        points: float (N, ≥ 2), x and y in pixels of level 0.
        mpp: µm per px of level 0, along x and y.
        hotspot: See `count`; None without figures.

    Returns:
        bool (N,).
    """
    if hotspot is None:
        return np.zeros(len(points), bool)
    return choose_inside(points[:, :2] * np.array(mpp), Rectangle.from_summary(hotspot))


def _list_steps(threshold: float, least: float) -> list[float]:
    """A threshold, and those a step below and above it, within the range of what is known."""
    steps = (max(threshold - STEP, least), threshold, min(threshold + STEP, 1.0))
    return sorted(dict.fromkeys(steps))
