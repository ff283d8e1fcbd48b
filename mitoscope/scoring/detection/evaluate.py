"""Metrics of a detector and more, from tables or the platform's own files."""

import io
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mitoscope.classify.tables import find_gap
from mitoscope.files import hash_file, write_json, write_text
from mitoscope.provenance import describe_code, describe_file
from mitoscope.scoring.detection.bootstrap import bootstrap_regions
from mitoscope.scoring.detection.platform import find_points, read_regions, write_metrics
from mitoscope.scoring.detection.plots import plot_froc_curves, plot_precision_recall_curves, plot_sweeps
from mitoscope.scoring.detection.regions import Group, Region, make_groups
from mitoscope.scoring.detection.summary import render_summary
from mitoscope.scoring.detection.sweep import sweep_regions, trace_sweep
from mitoscope.scoring.detection.tables import join_truth, read_detections, read_truth
from mitoscope.scoring.plots.style import MOST_GROUPS

FROM_NAMES = "the names of the points: the middle of the gap between them"
PICTURES = {
    "froc.svg": plot_froc_curves,
    "precision_recall.svg": plot_precision_recall_curves,
    "sweep.svg": plot_sweeps,
}


def evaluate_detections(
    detections_csv: Path,
    truth_csv: Path,
    out: Path,
    *,
    threshold: float | None = None,
    mpp: float | None = None,
    seed: int = 0,
) -> str:
    """Evaluate detections.csv: metrics.json, figures.json, summary.md, sweep.csv and three pictures.

    Args:
        detections_csv: See `mitoscope.scoring.detection.tables.read_detections`.
        truth_csv: See `mitoscope.scoring.detection.tables.read_truth`.
        out: The folder for the results; those that lie there are replaced.
        threshold: In [0, 1]; None: see `read_detections`.
        mpp: µm per pixel; None: from the detections.
        seed: Of the bootstrap.

    Returns:
        The summary, in Markdown.

    Raises:
        DataError: Detections and truth cannot be used together.
    """
    detections, truth = read_detections(detections_csv, threshold), read_truth(truth_csv)
    [regions] = join_truth([detections], truth, mpp)
    described = detections.describe()
    inputs: dict[str, Any] = {"detections": described, "truth": describe_file(truth_csv), "mpp": mpp}
    inputs["images_without_truth"] = sorted(set(detections.table["image"]) - set(truth["image"]))
    inputs["images_not_searched"] = detections.list_unsearched(truth)
    return _evaluate(regions, described["threshold"], inputs, out, seed)


def evaluate_regions(predictions_json: Path, ground_truth_json: Path, out: Path, seed: int = 0) -> str:
    """Evaluate the platform's own files of Track 1, as `evaluate_detections` does.

    Args:
        predictions_json: See `mitoscope.scoring.detection.platform.find_points`; the results lie beside it.
        ground_truth_json: See `mitoscope.scoring.detection.platform.read_regions`.
        out: The folder for the results; those that lie there are replaced.
        seed: Of the bootstrap.

    Returns:
        The summary, in Markdown.

    Raises:
        DataError: The platform's evaluator would fail, too.
    """
    results = find_points(predictions_json)
    regions = read_regions(results, ground_truth_json)
    called = np.concatenate([region.called for region in regions])
    value = find_gap(called, np.concatenate([region.p_mitosis for region in regions]))
    inputs = {
        "detections": {
            **describe_file(predictions_json),
            "results_sha256": [hash_file(results[image]) for image in sorted(results)],
        },
        "truth": describe_file(ground_truth_json),
        "images_without_truth": [],
        "images_not_searched": [],
    }
    threshold = None if value is None else {"value": value, "origin": FROM_NAMES}
    return _evaluate(regions, threshold, inputs, out, seed)


def _evaluate(
    regions: Sequence[Region], threshold: dict[str, Any] | None, inputs: dict[str, Any], out: Path, seed: int
) -> str:
    """Compute everything, then write it; returns the summary."""
    pooled, domains, kinds = make_groups(regions, threshold["value"] if threshold else None)
    parts = {group.name: group for group in (*domains.values(), *kinds.values()) if len(group.regions) < len(regions)}
    largest = sorted(parts.values(), key=lambda group: len(group.regions), reverse=True)[: MOST_GROUPS - 1]
    drawn = [pooled, *(group for group in parts.values() if group in largest)]
    results = {
        **describe_code(),
        "inputs": inputs,
        "seed": seed,
        "threshold": threshold,
        "pooled": describe_group(pooled, seed),
        "domains": {name: describe_group(group, seed) for name, group in domains.items()},
        "kinds": {name: describe_group(group, seed) for name, group in kinds.items()},
        "not_drawn": [name for name, group in parts.items() if group not in drawn],
    }
    summary = render_summary(results)
    write_json(out / "metrics.json", write_metrics(pooled, domains, kinds))
    write_json(out / "figures.json", results)
    write_text(out / "summary.md", summary)
    write_text(out / "sweep.csv", _render_sweep(pooled))
    for name, plot in PICTURES.items():
        plot(drawn, out / name)
    return summary


def describe_group(group: Group, seed: int) -> dict[str, Any]:
    """Every metric of one group, as plain values.

    Args:
        group: The regions.
        seed: Of the bootstrap.

    Returns:
        Counts, the metrics by the names of `METRICS` (None where one is not defined), intervals (None where all
        regions are of one case or hold no figure) and sweep (None without any point).
    """
    n_found, n_called, n_true = (int(row.sum()) for row in group.counts)
    intervals, sweep = bootstrap_regions(group, seed), sweep_regions(group)
    return {
        "n_regions": len(group.regions),
        "n_figures": n_true,
        "n_points": len(group.p_mitosis),
        "n_called": n_called,
        "n_found": n_found,
        "n_hard_negatives": sum(len(region.hard_negatives_mm) for region in group.regions),
        "n_hard_negatives_called": sum(region.n_on_hard_negatives for region in group.regions),
        **group.metrics,
        "intervals": intervals and asdict(intervals),
        "sweep": sweep and asdict(sweep),
    }


def _render_sweep(group: Group) -> str:
    """The sweep of all regions at thresholds of two decimals, as CSV; the price in points of F1 against the best."""
    best = sweep_regions(group)
    curve = trace_sweep(group, np.arange(101) / 100)
    table = pd.DataFrame(
        {
            "threshold": curve.threshold,
            "found": curve.n_found,
            "false_alarms": curve.n_called - curve.n_found,
            "missed": group.counts[2].sum() - curve.n_found,
            "f1_score": curve.f1_score,
            "precision": curve.precision,
            "recall": curve.recall,
            "price_points": 100 * ((best.best_f1_score if best else curve.f1_score) - curve.f1_score),
        }
    )
    text = io.StringIO()
    table.to_csv(text, index=False, float_format="%.6g", lineterminator="\n")
    return text.getvalue()
