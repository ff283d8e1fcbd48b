"""The pictures of `evaluate`, put into a page as text."""

import tempfile
from base64 import b64encode
from collections.abc import Callable, Sequence
from pathlib import Path

from mitoscope.scoring.metrics.groups import Group
from mitoscope.scoring.plots import plot_calibration, plot_precision_recall_curves, plot_roc_curves, plot_sweeps

Plot = Callable[[Sequence[Group], Path], None]

PICTURES: tuple[tuple[str, Plot, str], ...] = (
    ("ROC curve", plot_roc_curves, "Sensitivity over the false positive rate at every threshold"),
    ("Precision and recall", plot_precision_recall_curves, "Precision over sensitivity at every threshold"),
    ("Calibration", plot_calibration, "Share of atypical crops over the mean P(atypical), in ten bins"),
    ("Cost of the threshold", plot_sweeps, "Balanced accuracy over the threshold, with the fixed one marked"),
)


def embed_pictures(group: Group) -> list[dict[str, str]]:
    """Draw a group's curves.

    Args:
        group: All crops.

    Returns:
        title, source (an SVG as a data URI) and alt of each; the same group gives the same text.
    """
    with tempfile.TemporaryDirectory() as folder:
        return [
            {"title": title, "source": _embed(group, plot, Path(folder) / "picture.svg"), "alt": alt}
            for title, plot, alt in PICTURES
        ]


def _embed(group: Group, plot: Plot, path: Path) -> str:
    """One picture; path: a temporary file."""
    plot([group], path)
    return "data:image/svg+xml;base64," + b64encode(path.read_bytes()).decode("ascii")
