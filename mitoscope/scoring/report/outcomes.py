"""What became of each point and each true figure of an image: rows for a page's gallery and its zoomable view."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from mitoscope.scoring.detection.match import Array, find_hits, take_points
from mitoscope.scoring.detection.regions import Region
from mitoscope.scoring.report.zoom import Kind

FOUND, FALSE_ALARM, MISSED, BELOW, LOOK_ALIKE = range(5)
KINDS = (
    Kind("found", "#13703f", "circle"),
    Kind("false alarm", "#c4005a", "square"),
    Kind("missed", "#b45309", "cross"),
    Kind("below the threshold", "#4b5563", "circle", shown=False),
    Kind("labelled look-alike", "#1d4ed8", "cross", shown=False),
)
CALLED, UNCALLED = range(2)
KINDS_WITHOUT_TRUTH = (
    Kind("mitotic figure", "#c4005a", "circle"),
    Kind("below the threshold", "#4b5563", "circle", shown=False),
)
COLUMNS = ["x_px", "y_px", "p", "kind", "on_look_alike"]


def judge_points(region: Region, points_px: Array, figures_px: Array, look_alikes_px: Array) -> pd.DataFrame:
    """Say of each point and figure what it is, by the rule that F1 counts with.

    Args:
        region: The image's points, calls and true figures.
        points_px: float (P, 2), the same points in pixels of level 0.
        figures_px: float (T, 2), the true figures.
        look_alikes_px: float (H, 2), the labelled look-alikes.

    Returns:
        One row each with `COLUMNS`: p is the probability (for a missed figure that of the most probable point within
        7.5 µm, NaN without one), kind a number of `KINDS`, on_look_alike whether a look-alike is within 7.5 µm.
    """
    taken = take_points(region.hits, region.called)
    kind = np.where(region.called, FALSE_ALARM, BELOW)
    kind[taken[taken >= 0]] = FOUND
    beside = find_hits(region.hard_negatives_mm, region.points_mm)
    on_look_alike = np.zeros(len(kind), dtype=bool)
    on_look_alike[np.concatenate([*beside, np.empty(0, int)]).astype(int)] = True
    missed = np.flatnonzero(taken < 0)
    best = [region.p_mitosis[near].max() if len(near) else np.nan for near in (region.hits[row] for row in missed)]
    parts = [
        (points_px, region.p_mitosis, kind, on_look_alike),
        (figures_px[missed], np.array(best), np.full(len(missed), MISSED), np.zeros(len(missed), bool)),
        (look_alikes_px, np.full(len(look_alikes_px), np.nan), np.full(len(look_alikes_px), LOOK_ALIKE),
         np.ones(len(look_alikes_px), bool)),
    ]  # fmt: skip
    return _join(parts)


def list_calls(region: Region, points_px: Array) -> pd.DataFrame:
    """As `judge_points` without a truth: the kinds are those of `KINDS_WITHOUT_TRUTH`."""
    kind = np.where(region.called, CALLED, UNCALLED)
    return _join([(points_px, region.p_mitosis, kind, np.zeros(len(kind), bool))])


def describe_points(rows: pd.DataFrame, kinds: Sequence[Kind]) -> list[str]:
    """A line for each point, as the zoomable view shows it."""
    lines = []
    for row in rows.itertuples():
        p = "no point within 7.5 µm" if np.isnan(float(str(row.p))) else f"probability {row.p:.3f}"
        kind = kinds[int(str(row.kind))].name
        if kinds is KINDS and int(str(row.kind)) == LOOK_ALIKE:
            lines.append(kind)
        else:
            lines.append(f"{kind}: {p}{', on a labelled look-alike' if row.on_look_alike else ''}")
    return lines


def _join(parts: Sequence[tuple[Array, Array, Array, Array]]) -> pd.DataFrame:
    """A table with `COLUMNS`."""
    places = np.concatenate([part[0] for part in parts])
    p, kind, on_look_alike = (np.concatenate([part[k] for part in parts]) for k in (1, 2, 3))
    columns = {"x_px": places[:, 0], "y_px": places[:, 1], "p": p, "kind": kind, "on_look_alike": on_look_alike}
    return pd.DataFrame(columns, columns=COLUMNS)
