"""A slide's page: counts above, then the slide, zoomable, and every figure as a card. It needs no network."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from mitoscope.classify.task import CLASS_NAMES
from mitoscope.detect.task import POINT_NAMES
from mitoscope.images import CROP_PX
from mitoscope.images.slide import Mpp, Slide
from mitoscope.images.source import ArraySource
from mitoscope.scoring.report.page import render
from mitoscope.scoring.report.zoom import Kind, Pyramid, cut_pyramid, describe_view, read_library
from mitoscope.slide.counts import BELOW, Thresholds, find_in_hotspot, find_kinds
from mitoscope.slide.figures import MOST_CARDS, Figures
from mitoscope.slide.hotspot import Rectangle
from mitoscope.slide.overview import Overview
from mitoscope.slide.report.accuracy import describe_accuracy
from mitoscope.slide.report.views import (
    WindowSource,
    draw_density,
    enlarge,
    list_density_key,
    list_outlines,
    paint_damaged,
)
from mitoscope.slide.tissue import Tissue

SCRIPTS = ("elements.js", "rows.js", "filters.js", "looks.js", "pages.js", "cards.js", "detail.js", "main.js",
           "zoom.js", "slide.js")  # fmt: skip
HOTSPOT_MPP = 0.5  # of its own view: some 3 MB
KINDS = (
    Kind(f"{CLASS_NAMES[0]} {POINT_NAMES[1]}", "#0a64b4", "circle"),
    Kind(f"{CLASS_NAMES[1]} {POINT_NAMES[1]}", "#c8320a", "square"),
    Kind(f"{POINT_NAMES[1]}, not classified", "#7a2a9a", "circle"),
    Kind("below the threshold", "#555555", "cross", shown=False),
)  # in the order of `mitoscope.slide.counts.find_kinds`


def render_slide(slide: Slide, tissue: Tissue, overview: Overview, figures: Figures, summary: dict[str, Any]) -> str:
    """Make the page.

    Args:
        slide: The pixels of the hotspot are read from it.
        tissue: Of it.
        overview: Of the slide.
        figures: All points; of the `MOST_CARDS` most probable, those whose crop could be read are cards.
        summary: As in summary.json.

    Returns:
        HTML.

    Raises:
        InputError: The file is gone. Parts of the hotspot that are damaged are grey, and a warning says so.
    """
    thresholds, counts = Thresholds(**summary["thresholds"]), summary["counts"]
    chosen = np.flatnonzero(~np.isnan(figures.p_atypical[:MOST_CARDS]))
    kinds, rows = find_kinds(figures, thresholds), np.full(len(figures.points), -1)
    rows[chosen] = np.arange(len(chosen))
    views, warnings = _make_views(slide, tissue, paint_damaged(overview), figures, kinds, rows, counts["hotspot"])
    words = {
        **summary,
        **counts,
        "warnings": [*summary["warnings"], *warnings],
        "accuracy": [
            describe_accuracy(task, summary[task]["members"], summary[task]["out_of_fold"])
            for task in ("detector", "classifier")
        ],
        "density_key": list_density_key(),
        "n_shown": len(chosen),
        "n_left_out": len(figures.points) - len(chosen),
        "provenance": _describe_origin(summary),
        "outcomes": None,
        "n_members": len(figures.members),
        "has_mitosis": True,
        "has_domains": False,
        "unlike": figures.unlike is not None,
        "saliency": False,
        "frame_px": None,
        "bundle": summary["classifier"]["name"],
        "drawn_by": summary["classifier"]["name"],
    }
    data = {
        **_list_rows(slide, figures, chosen, thresholds, counts["hotspot"]),
        "kind": kinds[chosen].tolist(),
        "views": views,
        "kinds": [asdict(kind) for kind in KINDS],
        "outlines": [asdict(outline) for outline in list_outlines(tissue, counts)],
    }
    return render(data, words, "slide.html.j2", SCRIPTS, read_library())


def _list_rows(
    slide: Slide, figures: Figures, chosen: np.ndarray, thresholds: Thresholds, hotspot: dict[str, Any] | None
) -> dict[str, Any]:
    """The cards' data, column by column, as the page of crops has it."""
    points, p_atypical = figures.points[chosen], figures.p_atypical[chosen]
    return {
        "threshold": thresholds.atypical,
        "threshold_mitosis": thresholds.mitosis,
        "crop_px": CROP_PX,
        "frame_px": None,
        "map_cells": None,
        "image_id": [f"point {number + 1}" for number in chosen.tolist()],
        "x_px": points[:, 0].tolist(),
        "y_px": points[:, 1].tolist(),
        "p_mitosis": points[:, 2].tolist(),
        "in_hotspot": find_in_hotspot(points, (slide.mpp.x, slide.mpp.y), hotspot).tolist(),
        "p_atypical": p_atypical.tolist(),
        "members": figures.members[:, chosen].T.tolist(),
        "called": (p_atypical >= thresholds.atypical).astype(int).tolist(),
        "label": None,
        "domain": None,
        "case": None,
        "unlike": [figures.unlike[number] for number in chosen] if figures.unlike else None,
        "image": [figures.images[number] for number in chosen],
        "map": None,
    }  # fmt: skip


def _make_views(
    slide: Slide,
    tissue: Tissue,
    overview: np.ndarray,
    figures: Figures,
    kinds: np.ndarray,
    rows: np.ndarray,
    hotspot: dict[str, Any] | None,
) -> tuple[list[dict[str, Any]], list[str]]:
    """The zoomable views: the slide, the density of its figures, and the hotspot, and warnings. Rows: of the cards."""
    points = figures.points
    texts = [_describe_point(*each) for each in zip(points.tolist(), figures.p_atypical.tolist(), strict=True)]

    def describe(name: str, pyramid: Pyramid, chosen: np.ndarray, origin_px: tuple[int, int] = (0, 0)) -> None:
        own = [texts[number] for number in chosen]
        view = describe_view(name, pyramid, points[chosen], kinds[chosen], own, origin_px)
        views.append(view | {"row": rows[chosen].tolist()})

    views: list[dict[str, Any]] = []
    warnings = []
    tissue = enlarge(tissue, overview)
    density = draw_density(overview, tissue, points[kinds != BELOW, :2] * tissue.slide_mpp)
    for name, pixels in (("Whole slide", overview), ("Density of the mitotic figures", density)):
        small = Slide(Path(name), ArraySource(pixels), Mpp(tissue.mpp, tissue.mpp, "tags"), ())
        pyramid = replace(cut_pyramid(small, tissue.mpp), scale=(tissue.mpp / slide.mpp.x, tissue.mpp / slide.mpp.y))
        describe(name, pyramid, np.arange(len(points)))
    if hotspot:
        window = WindowSource.around(slide, Rectangle.from_summary(hotspot))
        pyramid = cut_pyramid(Slide(slide.path, window, slide.mpp, ()), HOTSPOT_MPP)
        describe("Hotspot", pyramid, np.flatnonzero(window.shows(points)), (window.left_px, window.top_px))
        if window.unread:
            warnings.append(
                f"{len(window.unread)} parts of the hotspot's picture could not be read, and are grey there: look at "
                "them in another viewer"
            )
    return views, warnings


def _describe_point(point: list[float], p_atypical: float) -> str:
    """The line that the view shows for a point that is clicked."""
    text = f"x {point[0]:.0f}, y {point[1]:.0f} px: P(mitosis) {point[2]:.3f}"
    return text if np.isnan(p_atypical) else f"{text}, P(atypical) {p_atypical:.3f}"


def _describe_origin(summary: dict[str, Any]) -> list[tuple[str, str]]:
    """Weights and code for the page's foot."""
    rows = [
        (task, f"{summary[task]['name']}, manifest sha256 {summary[task]['manifest_sha256']}")
        for task in ("detector", "classifier")
    ]
    tiles, mark = summary["tiles"], summary["mark"]
    rows += [
        ("tiles with tissue", f"{tiles['n_with_tissue']:,}, not readable {tiles['n_unread']:,}"),
        ("least P(mitosis) shown", f"{summary['floor']:g}"),
        ("computed on", " ".join(dict.fromkeys(mark["precision"]))),
        ("code", summary["commit"]),
    ]
    return rows
