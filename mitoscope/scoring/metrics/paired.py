"""Two predictions of the same crops: which is better, and whether that may be chance."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mitoscope.classify.tables import describe_predictions, find_threshold, read_predictions
from mitoscope.files import write_json, write_text
from mitoscope.markdown import render_share, render_table
from mitoscope.provenance import describe_code
from mitoscope.scoring.labels import LabelSource, join_labels
from mitoscope.scoring.metrics.bootstrap import N_DRAWS, Interval, cluster_crops, draw_weights, weighted_statistics
from mitoscope.scoring.metrics.delong import delong
from mitoscope.scoring.metrics.groups import Group, spell_domain
from mitoscope.scoring.metrics.judge import find_domains, make_groups
from mitoscope.scoring.predictions import Array

METRICS = {"roc_auc": "ROC AUC", "balanced_accuracy": "balanced accuracy"}  # as weighted_statistics orders them


@dataclass(frozen=True)
class Lead:
    """How far the first prediction is ahead of the second in one metric, by a paired bootstrap.

    Attributes:
        difference: The first's metric less the second's.
        interval: Of the difference, 95 %, percentiles.
        p_value: Two-sided: twice the share of draws on the rarer side of 0, with 1 added to both counts, so that it
            is never 0 (Davison and Hinkley, Bootstrap Methods and their Application, 1997).
    """

    difference: float
    interval: Interval
    p_value: float


def bootstrap_lead(first: Group, second: Group, n_draws: int = N_DRAWS) -> dict[str, Lead]:
    """Test whether ROC AUC and balanced accuracy differ; the same drawn cases judge both predictions.

    Cases are drawn whole, as in `mitoscope.scoring.metrics.bootstrap.bootstrap`.

    Args:
        first: The crops with one prediction; its seed is the draws'.
        second: The same crops in the same order, with the other prediction.
        n_draws: Draws.

    Returns:
        By ``roc_auc`` and ``balanced_accuracy``.

    Raises:
        DataError: All crops are of one case.
    """
    cluster, _ = cluster_crops(first.case, len(first.is_atypical))
    draws = draw_weights(cluster, (first.is_atypical, ~first.is_atypical), n_draws, first.seed)
    drawn = np.concatenate([_statistics(first, weights) - _statistics(second, weights) for weights, _ in draws])
    return {name: measure_lead(first.metrics[name] - second.metrics[name], column)
            for name, column in zip(METRICS, drawn.T, strict=True)}  # fmt: skip


def compare(first_csv: Path, second_csv: Path, labels: LabelSource, out: Path, seed: int) -> str:
    """Compare two predictions.csv of the same crops: comparison.json and comparison.md.

    Args:
        first_csv: See `mitoscope.classify.tables.read_predictions`.
        second_csv: The other; it may name the crops in another order.
        labels: Where the labels are.
        out: The folder for the results; those that lie there are replaced.
        seed: Of the bootstrap.

    Returns:
        The summary, in Markdown.

    Raises:
        DataError: The predictions and labels cannot be used together, or a class is missing in all crops.
    """
    paths = (first_csv, second_csv)
    tables = [read_predictions(path) for path in paths]
    truth = labels.read(tables[0]["image_id"])
    first, second = (join_labels(table, truth) for table in tables)
    second = second.set_index("image_id").loc[first["image_id"]].reset_index()
    origins = [describe_predictions(path) for path in paths]
    thresholds = [find_threshold(table, origin["record"]) for table, origin in zip(tables, origins, strict=True)]
    (all_1, domains_1), (all_2, domains_2) = (
        make_groups(table, threshold, seed) for table, threshold in zip((first, second), thresholds, strict=True)
    )
    results = {
        **describe_code(),
        "inputs": {
            "first": origins[0],
            "second": origins[1],
            "labels": labels.describe(),
        },
        "seed": seed,
        "n_draws": N_DRAWS,
        "thresholds": dict(zip(("first", "second"), thresholds, strict=True)),
        "pooled": _compare(all_1, all_2),
        "domains": {name: _compare(group, domains_2[name]) for name, group in domains_1.items()},
        "one_class": [name for name in find_domains(first) if name not in domains_1],
    }
    summary = render_comparison(results)
    write_json(out / "comparison.json", results)
    write_text(out / "comparison.md", summary)
    return summary


def _compare(first: Group, second: Group) -> dict[str, Any]:
    """One group's metrics by either prediction, and the tests."""
    leads = {} if first.is_one_case else bootstrap_lead(first, second)
    return {
        "n_crops": len(first.is_atypical),
        "n_atypical": int(first.is_atypical.sum()),
        "delong": asdict(delong(first.is_atypical, first.p_atypical, second.p_atypical)),
        **{
            name: {
                "first": first.metrics[name],
                "second": second.metrics[name],
                "bootstrap": asdict(leads[name]) if leads else None,
            }
            for name in METRICS
        },
    }


def _statistics(group: Group, weights: Array) -> Array:
    """float (B, 2): the metrics of `METRICS` in each drawn sample."""
    return weighted_statistics(group.is_atypical, group.p_atypical, weights, group.called)[:, : len(METRICS)]


def measure_lead(difference: float, drawn: Array) -> Lead:
    """The interval and p-value of one metric's difference; drawn is float (n_draws,)."""
    low, high = np.percentile(drawn, (2.5, 97.5)).tolist()
    rarer = min((drawn <= 0).sum(), (drawn >= 0).sum())
    return Lead(difference, (low, high), min(1.0, float(2 * (1 + rarer) / (1 + len(drawn)))))


def render_comparison(results: dict[str, Any]) -> str:
    """Render the results of one comparison.

    Args:
        results: The content of comparison.json.

    Returns:
        Markdown, with a new line at its end.
    """
    inputs, pooled = results["inputs"], results["pooled"]
    rows = _rows("all crops", pooled)
    rows += [cells for name, row in results["domains"].items() for cells in _rows(spell_domain(name), row)]
    head = ("crops", "metric", "A", "B", "A − B [95 % interval]", "p", "DeLong's p")
    parts = [
        f"# A against B, by {inputs['labels']['name']}",
        "\n".join(f"- {letter}: {inputs[key]['name']}, SHA-256 {inputs[key]['sha256'][:12]}…{_warn(results, key)}"
                  for letter, key in (("A", "first"), ("B", "second"))),
        f"{pooled['n_crops']:,} crops, {pooled['n_atypical']:,} of them atypical.",
        render_table(head, rows),
        f"Interval and p: paired bootstrap, {results['n_draws']:,} draws of whole cases (of crops where the case is "
        f"not known), seed {results['seed']}. DeLong's test takes every crop as a case of its own.",
        "\n".join(f"- {spell_domain(name)}: its crops are all of one class, nothing to compare."
                  for name in results["one_class"]),
    ]  # fmt: skip
    return "\n\n".join(filter(None, parts)) + "\n"


def _rows(name: str, row: dict[str, Any]) -> list[list[str]]:
    """One group's two lines."""
    lines = []
    for key, spelled in METRICS.items():
        shares = [render_share(row[key][which]) for which in ("first", "second")]
        delong_p = row["delong"]["p_value"] if key == "roc_auc" else None
        lines.append([name, spelled, *shares, *render_lead(row[key]), _render_p(delong_p)])
    return lines


def render_lead(row: dict[str, Any]) -> tuple[str, str]:
    """A difference with its interval, and its p-value.

    Args:
        row: One metric's ``first``, ``second`` and ``bootstrap``, in a comparison.json.

    Returns:
        Two cells of a table; a dash where there is nothing to show.
    """
    lead = row["bootstrap"]
    if None in (row["first"], row["second"]):
        return "–", "–"
    interval = "[{:+.3f}, {:+.3f}]".format(*lead["interval"]) if lead else "(one case)"
    return f"{row['first'] - row['second']:+.3f} {interval}", _render_p(lead and lead["p_value"])


def _render_p(value: float | None) -> str:
    """A p-value; a dash where there is none."""
    if value is None:
        return "–"
    return f"{value:.3f}" if value >= 0.001 else "< 0.001"


def _warn(results: dict[str, Any], key: str) -> str:
    """A warning where classes and probabilities disagree."""
    return "" if results["thresholds"][key] is not None else " — **no threshold gives its classes**"
