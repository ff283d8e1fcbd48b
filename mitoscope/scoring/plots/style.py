"""Colours, sizes, legends and panels of all pictures. The same groups give the same bytes."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mitoscope.errors import DataError
from mitoscope.scoring.predictions import Array

Panel = TypeVar("Panel")  # the crops or regions of one panel

MOST_GROUPS = 14  # as many looks as a curve can have
WIDTH_IN = 3.5  # a journal's column
PANEL_IN = 1.0  # three of them in a column
LINE_IN = 0.15  # a line of text and its distance to the next
POINT: dict[str, Any] = {
    "marker": "o",
    "markersize": 5,
    "markeredgecolor": "white",
    "markeredgewidth": 0.6,
    "linestyle": "",
}
# Okabe and Ito's, easy to distinguish with any colour vision; without yellow, which is lost on white.
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


def make_square(labels: Sequence[str]) -> tuple[Figure, Axes]:
    """A figure for curves of two shares, with room for a legend of these labels below; call it under `STYLE`."""
    n_lines = 2 + sum(1 + label.count("\n") for label in labels)
    figure = Figure(figsize=(WIDTH_IN, WIDTH_IN + n_lines * LINE_IN), layout="constrained")
    return figure, figure.add_subplot(aspect="equal", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))


def draw_curve(axes: Axes, x: Array, y: Array, point: tuple[float, float] | None, number: int) -> Line2D:
    """Draw one group's curve and the point of its threshold if there is one; number picks colour and dashes."""
    colour, dashes = PALETTE[number % len(PALETTE)], ("-", "--")[number // len(PALETTE)]
    (line,) = axes.plot(x, y, color=colour, linestyle=dashes, linewidth=1.1)
    if point:
        axes.plot(*point, **POINT, color=colour, zorder=3)
    return line


def describe_point(thresholds: Sequence[float | None]) -> list[str]:
    """The legend's line of the points at the curves' thresholds; none where there are none."""
    known = set(thresholds) - {None}
    if len(known) == 1:
        return [f"at the threshold {known.pop():.3f}"]
    return ["at each one's own threshold"] if known else []


def add_legend(figure: Figure, lines: list[Line2D], labels: Sequence[str], title: str) -> None:
    """Put the legend of curves below them: a line for each, and one for the points if there is a label more."""
    handles = [*lines, Line2D([], [], **POINT, color="0.4")][: len(labels)]
    legend = figure.legend(
        handles, labels, loc="outside lower center", title=title, alignment="left", handlelength=2.4
    )  # fmt: skip
    for text in legend.get_texts():
        text.set_parse_math(False)  # a name may hold a $


def draw_panels(
    groups: Sequence[Panel],
    path: Path,
    draw: Callable[[Axes, Panel], None],
    describe: Callable[[Panel], str],
    axis_names: tuple[str, str],
) -> None:
    """Draw one panel a group, three in a row and all of one height, with what `describe` says above each.

    Args:
        groups: 1 to 14, from left to right and from top to bottom.
        path: The picture, as for `plot_confusion_matrices`.
        draw: Draws one panel.
        describe: The title of a panel.
        axis_names: The names of the axes of all panels: below and on the left.

    Raises:
        DataError: There are too few or too many groups, or the suffix is another one.
    """
    check_picture(groups, path)
    columns = min(3, len(groups))
    rows = -(-len(groups) // columns)
    titles = [describe(group) for group in groups]
    n_lines = 2 + max(title.count("\n") for title in titles)  # above and below a panel
    height_in = rows * (PANEL_IN + n_lines * LINE_IN) + 2 * LINE_IN
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(0.5 + columns * PANEL_IN, height_in), layout="constrained")
        panels = figure.subplots(rows, columns, sharey=True, squeeze=False).flatten()
        for number, (axes, group) in enumerate(zip(panels, groups, strict=False)):
            draw(axes, group)
            axes.set_title(titles[number], parse_math=False)
            axes.tick_params(labelleft=number % columns == 0)
        for axes in panels[len(groups) :]:
            axes.set_axis_off()
        figure.supxlabel(axis_names[0], fontsize=7)
        figure.supylabel(axis_names[1], fontsize=7)
        save_picture(figure, path)


def check_picture(groups: Sequence[object], path: Path) -> None:
    """Refuse wrong groups or a wrong suffix, before anything is drawn."""
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


def delete_pictures(folder: Path, name: str) -> None:
    """Delete the numbered pictures NAME-1.svg, NAME-2.svg, … of a former run."""
    for path in folder.glob(f"{name}-*.svg"):
        if path.stem.removeprefix(f"{name}-").isdecimal():
            path.unlink()


def save_picture(figure: Figure, path: Path) -> None:
    """Write beside the file first, then rename: a reader sees the old picture or the new, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    figure.savefig(partial, format=path.suffix[1:], metadata=METADATA[path.suffix])
    partial.replace(path)
