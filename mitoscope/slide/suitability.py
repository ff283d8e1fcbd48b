"""How well a slide suits the networks: its µm per px, and the optical density of its tissue."""

from typing import Any

from mitoscope.bundle.manifest import Bundle
from mitoscope.images.density import Measure
from mitoscope.images.slide import Slide
from mitoscope.slide.overview import Overview
from mitoscope.slide.tissue import Tissue

COARSE = 1.5  # times a network's own µm per px: coarser slides lack what it was trained to see


def list_scale_warnings(slide: Slide, detector: Bundle, classifier: Bundle) -> list[str]:
    """What a reader of the counts must know about the size of a slide's pixels, one sentence each.

    Args:
        slide: The slide.
        detector: Finds the figures.
        classifier: Finds which of them are atypical.

    Raises:
        InputError: The pixels are too large or too small for one of them.
    """
    own_mpp, found = max(slide.mpp.x, slide.mpp.y), []
    for task, bundle in (("detector", detector), ("classifier", classifier)):
        slide.measure_scale(bundle.input.mpp)
        if own_mpp > COARSE * bundle.input.mpp:
            found.append(
                f"a pixel is {own_mpp:.4g} µm, and the {task} was trained on {bundle.input.mpp:g} µm: it sees the "
                "figures blurred, and its results are not reliable"
            )
    return found


def describe_density(measure: Measure | None) -> dict[str, Any] | None:
    """What was measured, for summary.json.

    Args:
        measure: See `mitoscope.detect.detector.Detector.measure`.

    Returns:
        ``mean`` and ``std`` by red, green and blue (natural logarithm), both None where nothing could be measured,
        ``n_windows`` and ``n_unread``; None if the detector measures nothing.
    """
    if measure is None:
        return None
    mean, std = (each.tolist() for each in measure.density) if measure.density else (None, None)
    return {"mean": mean, "std": std, "n_windows": measure.n_windows, "n_unread": measure.n_unread}


def list_overview_warnings(overview: Overview, tissue: Tissue) -> list[str]:
    """What a reader of the counts must know about the overview, one sentence each."""
    if not overview.damaged.any():
        return []
    text = f"{overview.damaged_mm2:.2f} mm² of the overview could not be read"
    return [
        text if tissue.source == "region" else f"{text}: all of it counts as tissue, so figures per mm² may be too low"
    ]


def list_density_warnings(measure: Measure | None) -> list[str]:
    """What a reader of the counts must know about the measure, one sentence each."""
    found = []
    if measure and measure.density is None:
        found.append(
            "the optical density of the tissue could not be measured: the detector saw the stain as it is, and its "
            "threshold may not suit it"
        )
    if measure and measure.n_unread:
        found.append(
            f"{measure.n_unread} of the {measure.n_windows} windows in which the optical density is measured could not "
            "be read: they are left out of it"
        )
    return found
