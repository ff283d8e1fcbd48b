"""A study's results: one table of all points, what follows from them, and pictures."""

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from mitoscope.files import write_json, write_text
from mitoscope.markdown import render_share, render_table
from mitoscope.provenance import describe_machine, list_versions, read_commit
from mitoscope.scoring.plots.style import PALETTE, STYLE, delete_pictures, save_picture
from mitoscope.training.foundation.scale.measure import (
    ENOUGH,
    METRICS,
    N_DRAWS,
    NAMES,
    Point,
    Scored,
    compare,
    find_enough,
    summarise_seeds,
)
from mitoscope.training.foundation.scale.trials import RANDOM, TEST, Plan

HEAD = ("method", "left out", "split", "share", "fitted to", "seeds", "scored on", *NAMES.values())
MOST_ROWS = 60  # of a picture
LIBRARIES = ("torch", "timm", "scikit-learn", "numpy")


def write_study(plan: Plan, scored: Sequence[Scored], out: Path, more: dict[str, Any]) -> str:
    """Write scale.json, tables.md and the pictures.

    Args:
        plan: The study.
        scored: Every set of every trial.
        out: The folder.
        more: Further provenance.

    Returns:
        The tables, in Markdown.
    """
    points = summarise_seeds(scored)
    tables = "\n".join(filter(None, [render_points(points), render_enough(points), render_leak(points),
                                     render_gap(points)]))  # fmt: skip
    record = {
        "command": f"mitoscope {' '.join(sys.argv[1:])}",
        "commit": read_commit(),
        "machine": describe_machine(),
        "versions": list_versions(*LIBRARIES),
        **more,
        "plan": asdict(plan),
        "points": [_describe(point) for point in points],
        "trials": [
            {**asdict(each.trial), "crops": each.crops, "n_fitted": each.n_fitted, "threshold": each.threshold,
             **each.metrics} for each in scored
        ],
    }  # fmt: skip
    write_json(out / "scale.json", record)
    write_text(out / "tables.md", tables)
    for name in ("curve", "points"):
        delete_pictures(out, name)
    for number, crops in enumerate(dict.fromkeys(point.crops for point in points)):
        own = [point for point in points if point.crops == crops]
        if len(plan.fractions) > 1:
            plot_curves(own, out / f"curve-{number + 1}.svg", crops)
        elif len(own) <= MOST_ROWS:
            plot_points(own, out / f"points-{number + 1}.svg", crops)
        else:
            print(f"no picture of {crops}: {len(own)} rows are more than {MOST_ROWS}; see tables.md")
    return tables


def _describe(point: Point) -> dict[str, Any]:
    """A point as plain values."""
    trial = {key: value for key, value in asdict(point.trial).items() if key != "seed"}
    intervals = {metric: point.interval(metric) for metric in METRICS}
    counts = {"crops": point.crops, "n_seeds": point.n_seeds, "n_fitted": point.n_fitted}
    return {**trial, **counts, **point.mean, "intervals": intervals}


def _method(point: Point) -> str:
    """Method and settings, for a reader."""
    return " ".join([point.trial.method, *point.trial.settings])


def render_points(points: Sequence[Point]) -> str:
    """The table of all points."""
    rows = []
    for point in points:
        trial = point.trial
        what = [_method(point), trial.left_out or "–", trial.split, f"{trial.fraction:g}", f"{point.n_fitted:,.0f}"]
        shares = [render_share(point.mean[metric], point.interval(metric)) for metric in METRICS]
        rows.append([*what, str(point.n_seeds), point.crops, *shares])
    return (
        "Means over the seeds. Balanced accuracy is at the threshold that is best on the validation crops. "
        f"[95 % interval: {N_DRAWS:,} draws of cases and of seeds; of crops where the case is not known.]\n\n"
        f"{render_table(HEAD, rows)}\n"
    )


def find_curves(points: Sequence[Point]) -> dict[tuple[str, ...], list[Point]]:
    """The points that differ in nothing but the fraction, from small to large; at least two each."""
    found: dict[tuple[str, ...], list[Point]] = {}
    for point in points:
        key = (_method(point), point.trial.left_out, point.trial.split, point.crops)
        found.setdefault(key, []).append(point)
    return {
        key: sorted(curve, key=lambda point: point.trial.fraction) for key, curve in found.items() if len(curve) > 1
    }


def render_enough(points: Sequence[Point]) -> str:
    """The fraction that reaches 98 % of what all crops give; empty where fractions were not varied."""
    rows = []
    for (method, left_out, split, crops), curve in find_curves(points).items():
        found = [find_enough(curve, metric) for metric in METRICS]
        cells = [f"{value:g}" if value is not None else "–" for value in found]
        rows.append([method, left_out or "–", split, crops, *cells])
    head = ("method", "left out", "split", "scored on", *NAMES.values())
    what = f"The smallest share from which on the mean is at least {ENOUGH:.0%} of that with all training crops."
    return f"{what}\n\n{render_table(head, rows)}\n" if rows else ""


def render_leak(points: Sequence[Point]) -> str:
    """How much better a random split looks than one by case; empty where only one was made."""
    rows = []
    for first in points:
        second = _partner(points, first) if first.trial.split == RANDOM else None
        if second is not None:
            shares = [_difference(first, second, metric) for metric in METRICS]
            place = [_method(first), first.trial.left_out or "–", f"{first.trial.fraction:g}", first.crops]
            rows.append([*place, *shares])
    head = ("method", "left out", "share", "scored on", *NAMES.values())
    what = (
        f"Random split minus split by case. On *{TEST}*, the random split has learned from crops of the same slides: "
        "what is above 0 there, and not on crops that were held out of both, is a leak. The two tests are of other "
        "crops, so their interval is not paired."
    )
    return f"{what}\n\n{render_table(head, rows)}\n" if rows else ""


def _partner(points: Sequence[Point], first: Point) -> Point | None:
    """The point that differs from one in the split alone."""
    trial = first.trial
    for point in points:
        other = point.trial
        same = (other.method, other.settings, other.left_out, other.fraction, point.crops) == (
            trial.method, trial.settings, trial.left_out, trial.fraction, first.crops
        )  # fmt: skip
        if same and other.split != trial.split:
            return point
    return None


def _difference(first: Point, second: Point, metric: str) -> str:
    """A difference with its interval."""
    value, interval = compare(first, second, metric)
    return f"{value:+.3f}" + (f" [{interval[0]:+.3f}, {interval[1]:+.3f}]" if interval else "")


def render_gap(points: Sequence[Point]) -> str:
    """How much worse a method is on what was left out than on the test crops; empty where nothing was."""
    rows = []
    for seen in (point for point in points if point.trial.left_out and point.crops == TEST):
        unseen = next(p for p in points if p.trial == seen.trial and p.crops == seen.trial.left_out)
        shares = [_difference(seen, unseen, metric) for metric in METRICS]
        trial = seen.trial
        rows.append([_method(seen), trial.left_out, trial.split, f"{trial.fraction:g}", *shares])
    head = ("method", "left out", "split", "share", *NAMES.values())
    what = (
        "Seen minus unseen: the test crops, of the cohorts that were learned from, against the cohort that was left "
        "out. The two hold different crops: a cohort may be hard by itself."
    )
    return f"{what}\n\n{render_table(head, rows)}\n" if rows else ""


def plot_curves(points: Sequence[Point], path: Path, title: str) -> None:
    """Draw each metric over the fraction, a line for each method, with its interval."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.2, 2.8), layout="constrained")
        panels = figure.subplots(1, len(METRICS), sharex=True)
        for axes, metric in zip(panels, METRICS, strict=True):
            for number, (key, curve) in enumerate(find_curves(points).items()):
                x = [point.trial.fraction for point in curve]
                colour = PALETTE[number % len(PALETTE)]
                label = " ".join(word for word in key[:3] if word)
                axes.plot(
                    x, [p.mean[metric] for p in curve], "o-", color=colour, markersize=3, linewidth=1, label=label
                )
                intervals = [point.interval(metric) for point in curve]
                if all(intervals):
                    low, high = zip(*intervals, strict=True)
                    axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
            axes.set(xscale="log", xlabel="share of the training crops", ylabel=NAMES[metric])
        panels[0].set_title(title, parse_math=False, loc="left")
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
        save_picture(figure, path)


def plot_points(points: Sequence[Point], path: Path, title: str) -> None:
    """Draw each metric of each point with its interval, one row each."""
    names = [" ".join(filter(None, (_method(p), p.trial.left_out, p.trial.split))) for p in points]
    rows = np.arange(len(points))[::-1]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.2, 0.7 + 0.17 * len(points)), layout="constrained")
        panels = figure.subplots(1, len(METRICS), sharey=True)
        for axes, metric in zip(panels, METRICS, strict=True):
            for row, point in zip(rows, points, strict=True):
                if interval := point.interval(metric):
                    axes.plot(interval, (row, row), color=PALETTE[0], linewidth=1)
                axes.plot(point.mean[metric], row, "o", color=PALETTE[0], markersize=3)
            axes.set(xlabel=NAMES[metric])
        panels[0].set_yticks(rows, names, parse_math=False)
        panels[0].set_title(title, parse_math=False, loc="left")
        save_picture(figure, path)
