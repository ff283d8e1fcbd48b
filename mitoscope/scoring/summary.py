"""The metrics of an evaluation as Markdown tables."""

from collections.abc import Sequence
from typing import Any

from mitoscope.markdown import render_share, render_table
from mitoscope.scoring.metrics.groups import spell_domain

Metrics = dict[str, Any]
SHARES = ("roc_auc", "balanced_accuracy", "sensitivity", "specificity")
DISAGREE = (
    "**Classes and probabilities disagree:** no threshold gives these classes, as when the confidence of the winning "
    "class was written instead of P(atypical). ROC AUC, average precision and calibration follow the probabilities, "
    "all else the classes. The cost of the threshold cannot be computed."
)
NOT_KNOWN_BEFORE = "The best threshold is found with these labels. In use, nobody knows it."


def render_summary(results: Metrics) -> str:
    """Render the results of one evaluation.

    Args:
        results: The content of figures.json.

    Returns:
        Markdown, with a new line at its end.
    """
    pooled, inputs, threshold = results["pooled"], results["inputs"], results["threshold"]
    rows = [("all crops", pooled), *((spell_domain(name), row) for name, row in results["domains"].items())]
    judged = [(name, row) for name, row in rows if row["roc_auc"] is not None]
    parts = [
        f"# {inputs['predictions']['name']} against {inputs['labels']['name']}",
        f"{pooled['n_crops']:,} crops, {pooled['n_atypical']:,} of them atypical.",
        f"Threshold {threshold['value']:.4f}, from {threshold['origin']}." if threshold else DISAGREE,
        _scores(rows),
        _interval_note(pooled["intervals"]),
        _prices(judged) if threshold else "",
        _calibration(judged),
        _members(results["members"]),
        _notes(results),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def _scores(rows: Sequence[tuple[str, Metrics]]) -> str:
    """The leaderboard's metrics with their intervals."""
    head = ("crops", "n (atypical)", "ROC AUC", "balanced accuracy", "sensitivity", "specificity", "accuracy")
    lines = []
    for name, row in rows:
        shares = [render_share(row[key], (row["intervals"] or {}).get(key)) for key in SHARES]
        lines.append([name, f"{row['n_crops']:,} ({row['n_atypical']:,})", *shares, render_share(row["accuracy"])])
    return render_table(head, lines)


def _interval_note(intervals: Metrics | None) -> str:
    """An explanation of the square brackets."""
    if not intervals:
        return "All crops are of one case, so there are no intervals."
    n_cases, n_loose, seed = (intervals[key] for key in ("n_cases", "n_without_case", "seed"))
    what = f"[95 % interval]: bootstrap, {intervals['n_draws']:,} draws, seed {seed};"
    if not n_loose:
        return f"{what} whole cases are drawn ({n_cases:,} cases)."
    whole = f"{n_cases:,} cases are drawn whole, and " if n_cases else ""
    return f"{what} {whole}{n_loose:,} crops of unknown case one by one: too narrow if some of them share a case."


def _prices(rows: Sequence[tuple[str, Metrics]]) -> str:
    """The cost of the fixed threshold."""
    head = (
        "crops",
        "balanced accuracy",
        "at the best threshold",
        "best threshold",
        "cost in points of balanced accuracy",
    )
    lines = []
    for name, row in rows:
        sweep = row["sweep"]
        shares = [render_share(sweep[key]) for key in ("balanced_accuracy", "best_balanced_accuracy")]
        lines.append([name, *shares, f"{sweep['best_threshold']:.4f}", f"{sweep['price_points']:.1f}"])
    return f"## Cost of the threshold\n\n{render_table(head, lines)}\n\n{NOT_KNOWN_BEFORE}"


def _calibration(rows: Sequence[tuple[str, Metrics]]) -> str:
    """Calibration of the probabilities."""
    head = (
        "crops",
        "expected calibration error",
        "Brier score",
        "Brier score of a constant prediction",
        "average precision",
    )
    lines = []
    for name, row in rows:
        shares = [render_share(row["calibration"][key]) for key in ("ece", "brier", "brier_of_share")]
        lines.append([name, *shares, render_share(row["average_precision"])])
    return f"## Calibration\n\n{render_table(head, lines)}"


def _members(members: dict[str, Metrics]) -> str:
    """Metrics of each network; empty where they are not known."""
    head = ("network", "ROC AUC", "balanced accuracy", "sensitivity", "specificity")
    lines = [[name.replace("_", " "), *(render_share(row.get(key)) for key in SHARES)] for name, row in members.items()]
    return f"## Each network alone\n\n{render_table(head, lines)}" if lines else ""


def _notes(results: Metrics) -> str:
    """What the tables and pictures leave out."""
    notes = []
    for name, row in results["domains"].items():
        if row["roc_auc"] is None:
            only = "atypical" if row["n_atypical"] else "normal"
            notes.append(
                f"- {spell_domain(name)}: its {row['n_crops']:,} crops are all {only}, so it has no curve. "
                "metrics.json holds what the platform writes: 0 for the missing class, half the balanced accuracy, "
                "and null for ROC AUC."
            )
        elif row["intervals"] is None:
            notes.append(f"- {spell_domain(name)}: all crops are of one case, so there are no intervals.")
    if results["domains"] and results["n_without_domain"]:
        notes.append(f"- {results['n_without_domain']:,} crops of unknown domain are only in the row of all crops.")
    if results["not_drawn"]:
        notes.append(f"- Not in the pictures, for lack of space: {', '.join(map(spell_domain, results['not_drawn']))}.")
    return "\n".join(["## Notes", "", *notes]) if notes else ""
