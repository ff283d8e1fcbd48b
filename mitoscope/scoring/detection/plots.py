"""Pictures of a detector: FROC and precision-recall curves, and F1 at every threshold."""

import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from mitoscope.markdown import render_share
from mitoscope.scoring.detection.metrics import MOST_FALSE_ALARMS
from mitoscope.scoring.detection.regions import Group
from mitoscope.scoring.detection.sweep import sweep_regions, trace_sweep
from mitoscope.scoring.plots.panels import TICKS
from mitoscope.scoring.plots.style import (
    PALETTE,
    POINT,
    STYLE,
    add_legend,
    check_picture,
    describe_point,
    draw_curve,
    draw_panels,
    make_square,
    save_picture,
)


def plot_froc_curves(groups: Sequence[Group], path: Path) -> None:
    """Draw one FROC curve a group: recall over false alarms an image, and the point of the calls.

    Args:
        groups: 1 to 14, in the order of the legend.
        path: The picture, ``.svg`` or ``.png``; the same groups give the same bytes. A picture there is replaced.

    Raises:
        DataError: There are too few or too many groups, or the suffix is another one.
    """

    def draw(axes: Axes, group: Group, number: int) -> Line2D:
        n_found, n_called, _ = group.counts.sum(axis=1)
        point = ((n_called - n_found) / len(group.regions), group.metrics["recall"] or 0.0)
        curve = trace_sweep(group)
        false_alarms, recall = ((curve.n_called - curve.n_found) / len(group.regions))[::-1], curve.recall[::-1]
        last = max([MOST_FALSE_ALARMS, *false_alarms])  # with no more points, recall stays
        false_alarms, recall = np.append(false_alarms, last), np.append(recall, recall[-1] if len(recall) else 0.0)
        is_inside = bool(n_called) and point[0] <= MOST_FALSE_ALARMS
        return draw_curve(axes, false_alarms, recall, point if is_inside else None, number)

    words = ("False alarms an image", "Recall", "FROC AUC of 8")
    _draw(groups, path, draw, "froc_auc", words, right=MOST_FALSE_ALARMS)


def plot_precision_recall_curves(groups: Sequence[Group], path: Path) -> None:
    """Draw one precision-recall curve a group, by distance as F1 counts, and the point of the calls.

    The legend's average precision is by overlap of boxes, as the evaluator computes it.

    Args:
        groups: 1 to 14, in the order of the legend.
        path: The picture, ``.svg`` or ``.png``; the same groups give the same bytes. A picture there is replaced.

    Raises:
        DataError: There are too few or too many groups, or the suffix is another one.
    """

    def draw(axes: Axes, group: Group, number: int) -> Line2D:
        curve, found = trace_sweep(group), group.metrics
        point = (found["recall"] or 0.0, found["precision"] or 0.0) if group.counts[1].any() else None
        return draw_curve(axes, curve.recall, curve.precision, point, number)

    words = ("Recall", "Precision (share of the calls that are right)", "Average precision")
    _draw(groups, path, draw, "AP", words)


def plot_sweeps(groups: Sequence[Group], path: Path) -> None:
    """Draw F1 at every threshold, one panel a group.

    The point is the fixed threshold, the dotted line the best one on these regions; the difference of their heights is
    the cost, given above the panel.

    Args:
        groups: 1 to 14, from left to right and from top to bottom.
        path: The picture, ``.svg`` or ``.png``; the same groups give the same bytes. A picture there is replaced.

    Raises:
        DataError: There are too few or too many groups, or the suffix is another one.
    """
    draw_panels(groups, path, _draw_sweep, _describe_sweep, ("Threshold", "F1"))


def _draw(
    groups: Sequence[Group],
    path: Path,
    draw: Callable[[Axes, Group, int], Line2D],
    metric: str,
    words: tuple[str, str, str],
    right: float = 1.0,
) -> None:
    """Draw a curve a group and their legend; words are below, beside, and above the legend."""
    check_picture(groups, path)
    names = [f"{render_share(group.metrics[metric])}  {textwrap.fill(group.name, 40)}" for group in groups]
    labels = [*names, *describe_point([group.threshold for group in groups])]
    with matplotlib.rc_context(STYLE):
        figure, axes = make_square(labels)
        axes.set(xlabel=words[0], ylabel=words[1], xlim=(-0.02 * right, 1.02 * right), aspect=right)
        lines = [draw(axes, group, number) for number, group in enumerate(groups)]
        add_legend(figure, lines, labels, words[2])
        save_picture(figure, path)


def _draw_sweep(axes: Axes, group: Group) -> None:
    """Draw one sweep."""
    sweep, curve = sweep_regions(group), trace_sweep(group)
    if sweep:
        thresholds, f1 = [0, *curve.threshold], [curve.f1_score[0], *curve.f1_score]
        axes.step(thresholds, f1, where="pre", color=PALETTE[0], linewidth=0.9)
        axes.axvline(sweep.best_threshold, color="0.5", linewidth=0.8, linestyle=":")
        if sweep.threshold is not None:
            axes.plot(sweep.threshold, sweep.f1_score, **POINT, color=PALETTE[1], zorder=3)
    axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), box_aspect=1)
    axes.set_xticks(*TICKS)


def _describe_sweep(group: Group) -> str:
    """The title of one sweep."""
    sweep, name = sweep_regions(group), textwrap.fill(group.name, 20)
    if sweep is None:
        return f"{name}\nno points\n"
    own = "calls as given" if group.threshold is None else f"● threshold {group.threshold:.3f}"
    return f"{name}\n{own}\ncosts {sweep.price_points:.1f} points\n┊ best {sweep.best_threshold:.3f}"
