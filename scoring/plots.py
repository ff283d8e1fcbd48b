"""The paper's two pictures (Qi et al., arXiv 2509.02589): ROC curves (Fig. 1) and confusion matrices (Fig. 2)."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from sklearn.metrics import confusion_matrix, roc_curve

from model.errors import DataError
from scoring.bootstrap import bootstrap
from scoring.metrics import figures
from scoring.predictions import Array, check_predictions, check_threshold

MOST_GROUPS = 12
WIDTH_IN = 3.5  # a journal's column
PANEL_IN = 1.0  # three of them in a column
LINE_IN = 0.15  # a line of text and its distance to the next
CLASSES = ("Normal", "Atypical")
POINT: dict[str, Any] = {
    "marker": "o",
    "markersize": 5,
    "markeredgecolor": "white",
    "markeredgewidth": 0.6,
    "linestyle": "",
}
# Okabe and Ito's, chosen to be told apart with any colour vision; without yellow, which is lost on white.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
METADATA = {".svg": {"Date": None}, ".png": {"Software": None}}  # nothing that differs from run to run
STYLE: dict[Any, Any] = {  # matplotlib's types know each key by name
    "svg.hashsalt": "mitosis",  # else the ids in an SVG are random
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": 7,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 6.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "legend.frameon": False,
    "figure.dpi": 300,
}


@dataclass(frozen=True)
class Group:
    """The predictions that make one curve or one panel: a cancer.

    Attributes:
        name: As it is to be read in the picture.
        is_atypical: bool (N,), both classes.
        p_atypical: float (N,) in [0, 1].
        threshold: In [0, 1]; a crop is called atypical when its probability is at least this.
        case: (N,), the cases' names, as `scoring.bootstrap.bootstrap` takes them; only the ROC curves' intervals
            need them.

    Raises:
        DataError: The predictions or the threshold are unusable; the message names the group.
    """

    name: str
    is_atypical: Array
    p_atypical: Array
    threshold: float
    case: Array | None = None

    def __post_init__(self) -> None:
        try:
            check_predictions(self.is_atypical, self.p_atypical)
            check_threshold(self.threshold)
        except DataError as error:
            what = f"{self.name}: {error.what}"
            raise DataError(what, got=error.got, expected=error.expected, remedy=error.remedy) from error


def plot_roc_curves(groups: Sequence[Group], path: Path) -> None:
    """Draw one ROC curve a group, its AUC with a 95 % interval clustered by case, and where its threshold lies on it.

    Args:
        groups: 1 to 12, in the order of the legend.
        path: The picture, ``.svg`` or ``.png``; the same groups give the same bytes. A picture there is replaced.

    Raises:
        DataError: There are too few or too many groups, the suffix is another one, or a group is of one case alone.
    """
    _check(groups, path)
    with matplotlib.rc_context(STYLE):
        labels = [*map(_auc_line, groups), _threshold_line(groups)]
        n_lines = 2 + sum(1 + label.count("\n") for label in labels)
        figure = Figure(figsize=(WIDTH_IN, WIDTH_IN + n_lines * LINE_IN), layout="constrained")
        axes = figure.add_subplot(aspect="equal", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        axes.set(xlabel="False positive rate (1 − specificity)", ylabel="True positive rate (sensitivity)")
        axes.plot([0, 1], [0, 1], color="0.7", linewidth=0.8, linestyle=":")
        lines = [_draw_roc_curve(axes, group, number) for number, group in enumerate(groups)]
        lines.append(Line2D([], [], **POINT, color="0.4"))
        legend = figure.legend(
            lines,
            labels,
            loc="outside lower center",
            title="ROC AUC [95 % interval]",
            alignment="left",
            handlelength=2.4,
        )
        for text in legend.get_texts():
            text.set_parse_math(False)  # a name may hold a $
        _save(figure, path)


def plot_confusion_matrices(groups: Sequence[Group], path: Path) -> None:
    """Draw one confusion matrix a group at its threshold: counts, and shares of each row, which are colours too.

    Args:
        groups: 1 to 12, from left to right and from top to bottom.
        path: The picture, ``.svg`` or ``.png``; the same groups give the same bytes. A picture there is replaced.

    Raises:
        DataError: There are too few or too many groups, or the suffix is another one.
    """
    _check(groups, path)
    columns = min(3, len(groups))
    rows = -(-len(groups) // columns)
    n_lines = 2 + max(_panel_title(group).count("\n") for group in groups)  # above and below a panel
    height_in = rows * (PANEL_IN + n_lines * LINE_IN) + 2 * LINE_IN
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(0.5 + columns * PANEL_IN, height_in), layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False).flatten()
        for number, (axes, group) in enumerate(zip(panels, groups, strict=False)):
            _draw_confusion_matrix(axes, group)
            axes.tick_params(length=0, labelleft=number % columns == 0)
        for axes in panels[len(groups) :]:
            axes.set_axis_off()
        figure.supxlabel("Predicted", fontsize=7)
        figure.supylabel("Annotated", fontsize=7)
        _save(figure, path)


def _draw_roc_curve(axes: Axes, group: Group, number: int) -> Line2D:
    """Draw one curve and the point of its threshold; number picks colour and dashes."""
    colour, dashes = PALETTE[number % len(PALETTE)], ("-", "--")[number // len(PALETTE)]
    false_alarms, found, _ = roc_curve(group.is_atypical, group.p_atypical)
    (line,) = axes.plot(false_alarms, found, color=colour, linestyle=dashes, linewidth=1.1)
    at = figures(group.is_atypical, group.p_atypical, group.threshold)
    axes.plot(1 - at["specificity"], at["sensitivity"], **POINT, color=colour, zorder=3)
    return line


def _auc_line(group: Group) -> str:
    """The legend's line of one curve."""
    auc = figures(group.is_atypical, group.p_atypical, group.threshold)["roc_auc"]
    low, high = bootstrap(group.is_atypical, group.p_atypical, group.threshold, group.case).roc_auc
    return f"{auc:.3f} [{low:.3f}, {high:.3f}]  {textwrap.fill(group.name, 34)}"


def _threshold_line(groups: Sequence[Group]) -> str:
    """The legend's line of the points."""
    thresholds = {group.threshold for group in groups}
    return f"at the threshold {thresholds.pop():.3f}" if len(thresholds) == 1 else "at each one's own threshold"


def _draw_confusion_matrix(axes: Axes, group: Group) -> None:
    """Draw one panel."""
    is_atypical, p_atypical = check_predictions(group.is_atypical, group.p_atypical)
    counts = confusion_matrix(is_atypical, p_atypical >= group.threshold)  # [annotated, predicted], normal first
    shares = counts / counts.sum(axis=1, keepdims=True)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(2, 2):
        text = f"{counts[row, column]:,}\n{100 * shares[row, column]:.1f} %"
        colour = "white" if shares[row, column] > 0.5 else "black"
        axes.text(column, row, text, ha="center", va="center", color=colour)
    axes.set_title(_panel_title(group), parse_math=False)
    axes.set_xticks([0, 1], CLASSES)
    axes.set_yticks([0, 1], CLASSES, rotation=90, va="center")
    axes.spines[:].set_visible(False)


def _panel_title(group: Group) -> str:
    """What stands above one panel."""
    return f"{textwrap.fill(group.name, 20)}\nthreshold {group.threshold:.3f}"


def _check(groups: Sequence[Group], path: Path) -> None:
    """Refuse what cannot be drawn, before anything is drawn."""
    if not 1 <= len(groups) <= MOST_GROUPS:
        raise DataError(
            "these groups cannot share a picture",
            got=f"{len(groups)} groups",
            expected=f"1 to {MOST_GROUPS}",
            remedy="draw them in several pictures",
        )
    if path.suffix not in METADATA:
        raise DataError(
            f"{path} cannot be drawn", got=repr(path.suffix), expected=" or ".join(METADATA), remedy="name it so"
        )


def _save(figure: Figure, path: Path) -> None:
    """Write beside the file first, then rename: a reader sees the old picture or the new, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    figure.savefig(partial, format=path.suffix[1:], metadata=METADATA[path.suffix])
    partial.replace(path)
