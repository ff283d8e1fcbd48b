"""A panel a group: confusion matrix (Fig. 2 of Qi et al., arXiv 2509.02589), calibration, price of the threshold."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from mitoscope.errors import DataError
from mitoscope.scoring.metrics.calibration import measure_calibration
from mitoscope.scoring.metrics.classification import count_calls
from mitoscope.scoring.metrics.groups import Group
from mitoscope.scoring.metrics.sweep import Sweep, sweep_curve, sweep_thresholds
from mitoscope.scoring.plots.style import PALETTE, POINT, draw_panels

CLASSES = ("Normal", "Atypical")
TICKS = ([0.0, 0.5, 1.0], ["0", "0.5", "1"])


def plot_confusion_matrices(groups: Sequence[Group], path: Path) -> None:
    """Draw one confusion matrix a group at its threshold: counts, and shares of each row, which are colours too.

    Args:
        groups: 1 to 14, from left to right and from top to bottom.
        path: The picture, ``.svg`` or ``.png``; the same groups give the same bytes. A picture there is replaced.

    Raises:
        DataError: There are too few or too many groups, or the suffix is another one.
    """
    draw_panels(groups, path, _draw_confusion_matrix, _panel_title, ("Predicted", "Annotated"))


def plot_calibration(groups: Sequence[Group], path: Path) -> None:
    """Draw one reliability diagram a group: the labels' share against the probabilities' mean, in ten bins.

    Each bin has its 95 % interval (see `Bin`) and a grey bar for its part of all crops. On the
    diagonal the probabilities are calibrated; below it they are too high.

    Args:
        groups: 1 to 14, from left to right and from top to bottom.
        path: The picture, ``.svg`` or ``.png``; the same groups give the same bytes. A picture there is replaced.

    Raises:
        DataError: There are too few or too many groups, or the suffix is another one.
    """
    draw_panels(groups, path, _draw_calibration, _calibration_title, ("Mean P(atypical)", "Share of atypical crops"))


def plot_sweeps(groups: Sequence[Group], path: Path) -> None:
    """Draw balanced accuracy at every threshold, one panel a group.

    The point is the fixed threshold, the dotted line the best one on these labels; the
    difference of their heights is the cost, given above the panel.

    Args:
        groups: 1 to 14, each with a threshold, from left to right and from top to bottom.
        path: The picture, ``.svg`` or ``.png``; the same groups give the same bytes. A picture there is replaced.

    Raises:
        DataError: There are too few or too many groups, the suffix is another one, or a group has no threshold.
    """
    draw_panels(groups, path, _draw_sweep, _price_title, ("Threshold", "Balanced accuracy"))


def _draw_calibration(axes: Axes, group: Group) -> None:
    """Draw one reliability diagram."""
    bins = measure_calibration(group.is_atypical, group.p_atypical).bins
    predicted, share = np.array([(each.mean_p_atypical, each.share_atypical) for each in bins]).T
    low, high = np.array([each.interval for each in bins]).T
    part = np.array([each.n_crops for each in bins]) / len(group.is_atypical)
    edges, widths = [each.low for each in bins], [each.high - each.low for each in bins]
    axes.bar(edges, part, widths, align="edge", color="0.88", zorder=0)
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=0.8, linestyle=":")
    axes.vlines(predicted, low, high, color=PALETTE[0], linewidth=0.9)
    axes.plot(predicted, share, color=PALETTE[0], linewidth=0.9, marker="o", markersize=2.5)
    axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), aspect="equal")
    axes.set_xticks(*TICKS)
    axes.set_yticks(*TICKS)


def _draw_sweep(axes: Axes, group: Group) -> None:
    """Draw one sweep."""
    sweep = _sweep(group)
    axes.step(*sweep_curve(group.is_atypical, group.p_atypical), where="pre", color=PALETTE[0], linewidth=0.9)
    axes.axvline(sweep.best_threshold, color="0.5", linewidth=0.8, linestyle=":")
    axes.plot(sweep.threshold, sweep.balanced_accuracy, **POINT, color=PALETTE[1], zorder=3)
    axes.set(xlim=(-0.03, 1.03), box_aspect=1)
    axes.set_xticks(*TICKS)


def _calibration_title(group: Group) -> str:
    """The title of one reliability diagram."""
    ece = measure_calibration(group.is_atypical, group.p_atypical).ece
    return f"{textwrap.fill(group.name, 20)}\nECE {ece:.3f}"


def _price_title(group: Group) -> str:
    """The title of one sweep."""
    sweep = _sweep(group)
    price = f"● threshold {sweep.threshold:.3f}\ncosts {sweep.price_points:.1f} points"
    return f"{textwrap.fill(group.name, 20)}\n{price}\n┊ best {sweep.best_threshold:.3f}"


def _sweep(group: Group) -> Sweep:
    """One group's, which must have a threshold."""
    if group.threshold is None:
        raise DataError(
            f"{group.name}: the cost of the threshold cannot be computed",
            got="classes that no threshold explains",
            expected="one fixed threshold",
            remedy="write P(atypical), whatever the class says",
        )
    return sweep_thresholds(group.is_atypical, group.p_atypical, group.threshold)


def _draw_confusion_matrix(axes: Axes, group: Group) -> None:
    """Draw one panel."""
    counts = count_calls(group.is_atypical, group.called)
    shares = counts / counts.sum(axis=1, keepdims=True)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(2, 2):
        text = f"{counts[row, column]:,}\n{100 * shares[row, column]:.1f} %"
        colour = "white" if shares[row, column] > 0.5 else "black"
        axes.text(column, row, text, ha="center", va="center", color=colour)
    axes.set_xticks([0, 1], CLASSES)
    axes.set_yticks([0, 1], CLASSES, rotation=90, va="center")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _panel_title(group: Group) -> str:
    """The title of one panel."""
    threshold = group.threshold
    return (
        f"{textwrap.fill(group.name, 20)}\n{'classes as given' if threshold is None else f'threshold {threshold:.3f}'}"
    )
