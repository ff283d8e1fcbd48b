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
NORMAL, ATYPICAL, UNCLASSIFIED, BELOW = range(4)  # kinds of points: three of mitotic figures, and no mitotic figure


@dataclass(frozen=True)
class Thresholds:
    """From which probability on a point is a mitotic figure, and a mitotic figure atypical."""

    mitosis: float
    atypical: float


def find_kinds(figures: Figures, thresholds: Thresholds) -> np.ndarray:
    """What each point is: int (N,), `NORMAL`, `ATYPICAL`, `UNCLASSIFIED` (its pixels are damaged) or `BELOW`."""
    is_atypical = figures.p_atypical >= thresholds.atypical  # a NaN is not
    classified = np.where(np.isnan(figures.p_atypical), UNCLASSIFIED, np.where(is_atypical, ATYPICAL, NORMAL))
    return np.where(figures.points[:, 2] >= thresholds.mitosis, classified, BELOW)


def count(figures: Figures, tissue: Tissue, thresholds: Thresholds, read: Tissue) -> dict[str, Any]:
    """Count at two thresholds.

    Args:
        figures: The points.
        tissue: The tissue.
        thresholds: The thresholds.
        read: The part of the tissue that could be read.

    Returns:
        ``n_mitotic_figures``, ``tissue_mm2``, ``read_mm2``, ``per_mm2`` (of the tissue that could be read),
        ``atypical`` (see `describe_share`), and ``hotspot`` and ``hotspot_circle``: None without figures, else the
        window in µm from the slide's upper left corner, its ``n_figures`` and ``atypical``, and ``tissue_mm2`` of the
        rectangle, which is what could be read.
    """
    return _Chosen.above(figures, read, thresholds.mitosis).count(tissue, thresholds.atypical, read)


@dataclass(frozen=True)
class _Chosen:
    """The mitotic figures at one threshold, and their windows."""

    points_um: np.ndarray  # float (N, 2)
    p_atypical: np.ndarray  # float (N,)
    rectangle: Rectangle | None
    circle: Circle | None

    @classmethod
    def above(cls, figures: Figures, read: Tissue, threshold: float) -> "_Chosen":
        """The figures from a threshold on."""
        is_mitotic = figures.points[:, 2] >= threshold
        points_um = figures.points[is_mitotic, :2] * np.array(read.slide_mpp)
        rectangle = find_rectangle(points_um, read.measure_boxes_mm2)
        return cls(points_um, figures.p_atypical[is_mitotic], rectangle, find_circle(points_um))

    def count(self, tissue: Tissue, threshold: float, read: Tissue) -> dict[str, Any]:
        """See `count`; the threshold is the classifier's."""
        read_mm2 = read.area_mm2
        return {
            "n_mitotic_figures": len(self.points_um),
            "tissue_mm2": tissue.area_mm2,
            "read_mm2": read_mm2,
            "per_mm2": len(self.points_um) / read_mm2 if read_mm2 else 0.0,
            "atypical": describe_share(self.p_atypical, threshold),
            "hotspot": self._describe(self.rectangle, threshold, read),
            "hotspot_circle": self._describe(self.circle, threshold, read),
        }

    def _describe(self, window: Rectangle | Circle | None, threshold: float, read: Tissue) -> dict[str, Any] | None:
        """A window for the summary."""
        if window is None:
            return None
        share = describe_share(self.p_atypical[window.contains(self.points_um)], threshold)
        known = {"tissue_mm2": read.measure_box_mm2(*window.box_um)} if isinstance(window, Rectangle) else {}
        return {**asdict(window), "area_mm2": AREA_MM2, **known, "atypical": share}


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
    figures: Figures, tissue: Tissue, thresholds: Thresholds, read: Tissue, floor: float
) -> list[dict[str, Any]]:
    """Count again at lower and higher thresholds.

    Returns:
        One row for each pair: ``threshold_mitosis``, ``threshold_atypical``, ``n_mitotic_figures``, ``per_mm2``,
        ``n_hotspot``, ``n_hotspot_circle``, ``n_atypical``, ``share``, ``n_atypical_hotspot``, ``share_hotspot`` and
        ``is_used``, which marks the bundles' own. Hotspots are found again for each threshold.
    """
    rows = []
    for mitosis in _list_steps(thresholds.mitosis, floor):
        chosen = _Chosen.above(figures, read, mitosis)
        for atypical in _list_steps(thresholds.atypical, 0.0):
            counted = chosen.count(tissue, atypical, read)
            hotspot, circle = counted["hotspot"], counted["hotspot_circle"]
            rows.append(
                {
                    "threshold_mitosis": mitosis,
                    "threshold_atypical": atypical,
                    "n_mitotic_figures": counted["n_mitotic_figures"],
                    "per_mm2": counted["per_mm2"],
                    "n_hotspot": hotspot["n_figures"] if hotspot else 0,
                    "n_hotspot_circle": circle["n_figures"] if circle else 0,
                    "n_atypical": counted["atypical"]["n_atypical"],
                    "share": counted["atypical"]["share"],
                    "n_atypical_hotspot": hotspot["atypical"]["n_atypical"] if hotspot else 0,
                    "share_hotspot": hotspot["atypical"]["share"] if hotspot else None,
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
        n_tiles = "1 tile" if len(unread_mm2) == 1 else f"{len(unread_mm2)} tiles"
        found.append(f"{n_tiles} could not be read: figures in {sum(unread_mm2):.2f} mm² of tissue are not counted")
    share = counted["atypical"]
    if share["few"] and share["n_figures"]:
        n_figures = "1 figure was" if share["n_figures"] == 1 else f"{share['n_figures']} figures were"
        found.append(f"only {n_figures} classified: the share of atypical ones is not reliable")
    if share["n_unclassified"]:
        found.append(f"{share['n_unclassified']} mitotic figures could not be classified: their pixels are damaged")
    hotspot = counted["hotspot"]
    if hotspot and hotspot["atypical"]["few"] and not share["few"]:
        found.append(
            f"only {hotspot['atypical']['n_figures']} figures of the hotspot were classified: the share there is not "
            "reliable"
        )
    if counted["tissue_mm2"] < AREA_MM2:
        found.append(
            f"all tissue, {counted['tissue_mm2']:.2f} mm², is less than a hotspot of {AREA_MM2} mm²: no part of it can "
            "be called the densest; compare figures per mm²"
        )
    elif hotspot and hotspot["tissue_mm2"] < WHOLE_SHARE * AREA_MM2:
        found.append(
            f"only {hotspot['tissue_mm2']:.2f} mm² of the hotspot's {AREA_MM2} mm² are tissue"
            f"{' that could be read' if unread_mm2 else ''}: compare figures per mm²"
        )
    mitotic = figures.points[:, 2] >= thresholds.mitosis
    n_unlike = sum(bool(names) for names, is_one in zip(figures.unlike or [], mitotic.tolist(), strict=False) if is_one)
    if n_unlike > mitotic.sum() / 2:
        found.append(f"{n_unlike} of {mitotic.sum()} figures are unlike the training crops: stain or scanner differ")
    return found


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
    return Rectangle.from_summary(hotspot).contains(points[:, :2] * np.array(mpp))


def choose_floor(threshold: float) -> float:
    """The least probability of a point in the result, if the user names none.

    It is the detector's lowest threshold in the table of sensitivity: less probable points are in no count. It must be
    above 0, so for thresholds below .2 it is half of them.
    """
    return max(threshold - STEP, threshold / 2)


def _list_steps(threshold: float, least: float) -> list[float]:
    """A threshold, and those a step below and above it, within the range of what is known."""
    steps = (max(threshold - STEP, least), threshold, min(threshold + STEP, 1.0))
    return sorted(dict.fromkeys(steps))
