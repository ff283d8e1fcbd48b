"""Metrics of the leaderboard and more, from a table or the platform's own files."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mitoscope.classify.tables import describe_predictions, find_threshold, read_predictions, record_of
from mitoscope.classify.task import CLASS_NAMES
from mitoscope.files import hash_file, write_json, write_text
from mitoscope.provenance import describe_code, describe_file
from mitoscope.scoring.labels import LabelSource, join_labels
from mitoscope.scoring.metrics.groups import Group
from mitoscope.scoring.metrics.judge import find_domains, judge, make_groups, truth_and_calls
from mitoscope.scoring.platform import find_results, platform_metrics, read_results
from mitoscope.scoring.plots import (
    plot_calibration,
    plot_confusion_matrices,
    plot_precision_recall_curves,
    plot_roc_curves,
    plot_sweeps,
)
from mitoscope.scoring.plots.style import MOST_GROUPS
from mitoscope.scoring.predictions import check_threshold
from mitoscope.scoring.summary import render_summary

PICTURES = {
    "roc.svg": plot_roc_curves,
    "precision_recall.svg": plot_precision_recall_curves,
    "confusion.svg": plot_confusion_matrices,
    "calibration.svg": plot_calibration,
    "sweep.svg": plot_sweeps,
}
SWEEP = "sweep.svg"  # the one that needs a threshold
FROM_CLASSES = "the classes: the middle of the gap between them"


def evaluate(predictions_csv: Path, labels: LabelSource, out: Path, threshold: float | None, seed: int) -> str:
    """Evaluate predictions.csv: metrics.json, figures.json, summary.md and five pictures.

    Args:
        predictions_csv: See `mitoscope.classify.tables.read_predictions`.
        labels: Where the labels are.
        out: The folder for the results; those that lie there are replaced.
        threshold: Makes new classes; None: the classes of the file, see `mitoscope.classify.tables.find_threshold`.
        seed: Of the bootstrap.

    Returns:
        The summary, in Markdown.

    Raises:
        DataError: Predictions and labels cannot be used together.
    """
    predictions = read_predictions(predictions_csv)
    table = join_labels(predictions, labels.read(predictions["image_id"]))
    inputs = {"predictions": describe_predictions(predictions_csv), "labels": labels.describe()}
    if threshold is None:
        record = inputs["predictions"]["record"]
        value = find_threshold(table, record)
        origin = FROM_CLASSES if record is None else record_of(predictions_csv).name
    else:
        value, origin = check_threshold(threshold), "--threshold"
        table["class"] = np.where(table["p_atypical"] >= value, *reversed(CLASS_NAMES))
    return _evaluate(table, value, origin, inputs, out, seed)


def evaluate_platform(predictions_json: Path, ground_truth_json: Path, out: Path, seed: int) -> str:
    """Evaluate the platform's own files, as `evaluate` does.

    Args:
        predictions_json: See `mitoscope.scoring.platform.find_results`; the results lie beside it.
        ground_truth_json: See `mitoscope.scoring.platform.read_results`.
        out: The folder for the results; those that lie there are replaced.
        seed: Of the bootstrap.

    Returns:
        The summary, in Markdown.

    Raises:
        DataError: The platform's evaluator would fail, too.
    """
    results = find_results(predictions_json)
    table = read_results(results, ground_truth_json)
    inputs = {
        "predictions": {
            **describe_file(predictions_json),
            "results_sha256": [hash_file(results[image]) for image in sorted(results)],
            "record": None,
        },
        "labels": describe_file(ground_truth_json),
    }
    return _evaluate(table, find_threshold(table, None), FROM_CLASSES, inputs, out, seed)


def _evaluate(
    table: pd.DataFrame, threshold: float | None, origin: str, inputs: dict[str, Any], out: Path, seed: int
) -> str:
    """Compute everything, then write it; returns the summary."""
    pooled, domains = make_groups(table, threshold, seed)
    parts = {name: group for name, group in domains.items() if len(group.is_atypical) < len(table)}
    drawn = _choose(pooled, parts)
    results = {
        **describe_code(),
        "inputs": inputs,
        "seed": seed,
        "threshold": None if threshold is None else {"value": threshold, "origin": origin},
        **judge(table, pooled, domains),
        "not_drawn": [name for name, group in parts.items() if group not in drawn],
    }
    is_atypical, called = truth_and_calls(table)
    metrics = platform_metrics(is_atypical, table["p_atypical"].to_numpy(), called, find_domains(table))
    summary = render_summary(results)
    write_json(out / "metrics.json", metrics)
    write_json(out / "figures.json", results)
    write_text(out / "summary.md", summary)
    for name, plot in PICTURES.items():
        if name == SWEEP and threshold is None:
            (out / name).unlink(missing_ok=True)  # an older one belongs to other metrics
        else:
            plot(drawn, out / name)
    return summary


def _choose(pooled: Group, parts: dict[str, Group]) -> list[Group]:
    """What the pictures show: all crops, and the largest parts of them as far as there is room, in their order."""
    largest = sorted(parts.values(), key=lambda group: len(group.is_atypical), reverse=True)[: MOST_GROUPS - 1]
    return [pooled, *(group for group in parts.values() if group in largest)]
