"""Pictures of predictions."""

from mitoscope.scoring.plots.curves import plot_precision_recall_curves, plot_roc_curves
from mitoscope.scoring.plots.panels import plot_calibration, plot_confusion_matrices, plot_sweeps

__all__ = [
    "plot_calibration",
    "plot_confusion_matrices",
    "plot_precision_recall_curves",
    "plot_roc_curves",
    "plot_sweeps",
]
