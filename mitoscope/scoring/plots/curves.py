"""Curves of all thresholds in one square: ROC (Fig. 1 of Qi et al., arXiv 2509.02589), and precision over recall."""

import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_curve

from mitoscope.scoring.metrics.groups import Group
from mitoscope.scoring.plots.style import (
    STYLE,
    add_legend,
    check_picture,
    describe_point,
    draw_curve,
    make_square,
    save_picture,
)


def plot_roc_curves(groups: Sequence[Group], path: Path) -> None:
    """Draw one ROC curve a group, its AUC with a 95 % interval clustered by case, and its threshold marked on it.

    Where no threshold explains the classes, there is no such point. A group of one case has no interval.

    Args:
        groups: 1 to 14, in the order of the legend.
        path: The picture, ``.svg`` or ``.png``; the same groups give the same bytes. A picture there is replaced.

    Raises:
        DataError: There are too few or too many groups, or the suffix is another one.
    """
    words = ("False positive rate (1 − specificity)", "True positive rate (sensitivity)", "ROC AUC [95 % interval]")
    _draw_square(groups, path, _draw_roc_curve, _auc_line, words, diagonal=True)


def plot_precision_recall_curves(groups: Sequence[Group], path: Path) -> None:
    """Draw one precision-recall curve a group, with its average precision and the share of atypical crops.

    That share is the precision of calling every crop atypical, and so the yardstick of the curve. The point is where
    the threshold is; there is none where no threshold explains the classes, or nothing is called atypical.

    Args:
        groups: 1 to 14, in the order of the legend.
        path: The picture, ``.svg`` or ``.png``; the same groups give the same bytes. A picture there is replaced.

    Raises:
        DataError: There are too few or too many groups, or the suffix is another one.
    """
    title = "Average precision (share of atypical crops)"
    words = ("Recall (sensitivity)", "Precision (share of the calls that are right)", title)
    _draw_square(groups, path, _draw_precision_recall_curve, _precision_line, words)


def _draw_square(
    groups: Sequence[Group],
    path: Path,
    draw: Callable[[Axes, Group, int], Line2D],
    describe: Callable[[Group], str],
    words: tuple[str, str, str],
    *,
    diagonal: bool = False,
) -> None:
    """Draw a curve a group and their legend; words are below, beside, and above the legend."""
    check_picture(groups, path)
    labels = [*map(describe, groups), *describe_point([group.threshold for group in groups])]
    with matplotlib.rc_context(STYLE):
        figure, axes = make_square(labels)
        axes.set(xlabel=words[0], ylabel=words[1])
        if diagonal:
            axes.plot([0, 1], [0, 1], color="0.7", linewidth=0.8, linestyle=":")
        lines = [draw(axes, group, number) for number, group in enumerate(groups)]
        add_legend(figure, lines, labels, words[2])
        save_picture(figure, path)


def _draw_precision_recall_curve(axes: Axes, group: Group, number: int) -> Line2D:
    """Draw one curve and the point of its threshold."""
    precision, recall, _ = precision_recall_curve(group.is_atypical, group.p_atypical)
    point = None
    if group.threshold is not None and group.called.any():
        point = (group.metrics["sensitivity"], float(group.is_atypical[group.called].mean()))
    line = draw_curve(axes, recall, precision, point, number)
    line.set_drawstyle("steps-post")  # as average precision counts it: no straight lines between the points
    return line


def _precision_line(group: Group) -> str:
    """The legend's line of one curve."""
    share = group.is_atypical.mean()
    value = average_precision_score(group.is_atypical, group.p_atypical)
    return f"{value:.3f} ({share:.3f})  {textwrap.fill(group.name, 34)}"


def _draw_roc_curve(axes: Axes, group: Group, number: int) -> Line2D:
    """Draw one curve and the point of its threshold."""
    false_alarms, found, _ = roc_curve(group.is_atypical, group.p_atypical)
    at = (1 - group.metrics["specificity"], group.metrics["sensitivity"])
    return draw_curve(axes, false_alarms, found, None if group.threshold is None else at, number)


def _auc_line(group: Group) -> str:
    """The legend's line of one curve."""
    interval = "[{:.3f}, {:.3f}]".format(*group.intervals.roc_auc) if group.intervals else "[one case]"
    return f"{group.metrics['roc_auc']:.3f} {interval}  {textwrap.fill(group.name, 34)}"
