"""The metrics of a detector as Markdown tables."""

from collections.abc import Sequence
from typing import Any

from mitoscope.markdown import render_share, render_table
from mitoscope.scoring.detection.metrics import METRICS
from mitoscope.scoring.metrics.groups import spell_domain
from mitoscope.scoring.summary import NOT_KNOWN_BEFORE

Metrics = dict[str, Any]
SPELLED = {"f1_score": "F1", "AP": "AP", "froc_auc": "FROC AUC (of 8)"}
DISAGREE = (
    "**Names and probabilities disagree:** no threshold gives these names. F1, precision and recall follow the names, "
    "AP and FROC AUC the probabilities."
)


def spell_metric(name: str) -> str:
    """A metric's name for a reader."""
    return SPELLED.get(name, name)


def list_rows(results: Metrics) -> list[tuple[str, Metrics]]:
    """The groups of figures.json or comparison.json with their names, all regions first."""
    parts = {**results["domains"], **results["kinds"]}
    return [("all regions", results["pooled"]), *((spell_domain(name), row) for name, row in parts.items())]


def render_summary(results: Metrics) -> str:
    """Render the results of one evaluation.

    Args:
        results: The content of figures.json.

    Returns:
        Markdown, with a new line at its end.
    """
    rows, inputs, threshold, pooled = list_rows(results), results["inputs"], results["threshold"], results["pooled"]
    parts = [
        f"# {inputs['detections']['name']} against {inputs['truth']['name']}",
        f"{pooled['n_regions']:,} images, {pooled['n_figures']:,} mitotic figures, {pooled['n_points']:,} points, "
        f"{pooled['n_called']:,} of them called mitotic figures.",
        f"Threshold {threshold['value']:.4f}, from {threshold['origin']}." if threshold else DISAGREE,
        _scores(rows),
        _interval_note(pooled["intervals"]),
        _prices([(name, row["sweep"]) for name, row in rows if row["sweep"]]),
        _notes(results, rows),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def _scores(rows: Sequence[tuple[str, Metrics]]) -> str:
    """The leaderboard's metrics with their intervals."""
    head = ("regions", "images", "figures found", "false alarms", *map(spell_metric, METRICS))
    lines = []
    for name, row in rows:
        intervals = row["intervals"]["metrics"] if row["intervals"] else {}
        found = f"{row['n_found']:,} of {row['n_figures']:,}"
        shares = [render_share(row[key], intervals.get(key)) for key in METRICS]
        lines.append([name, f"{row['n_regions']:,}", found, f"{row['n_called'] - row['n_found']:,}", *shares])
    return render_table(head, lines)


def _interval_note(intervals: Metrics | None) -> str:
    """An explanation of the square brackets."""
    if not intervals:
        return "All images are of one case, or none holds a mitotic figure, so there are no intervals."
    n_cases, n_loose = intervals["n_cases"], intervals["n_without_case"]
    drawn = [f"{n_cases:,} cases are drawn whole"] if n_cases else []
    drawn += [f"{n_loose:,} images of unknown case one by one: too narrow if some share a case"] if n_loose else []
    what = f"[95 % interval]: bootstrap, {intervals['n_draws']:,} draws, seed {intervals['seed']};"
    return f"{what} {', and '.join(drawn)}."


def _prices(rows: Sequence[tuple[str, Metrics]]) -> str:
    """The cost of the fixed threshold."""
    head = ("regions", "F1", "at the best threshold", "best threshold", "cost in points of F1")
    lines = [
        [name, render_share(sweep["f1_score"]), render_share(sweep["best_f1_score"]),
         f"{sweep['best_threshold']:.4f}", f"{sweep['price_points']:.1f}"]
        for name, sweep in rows
    ]  # fmt: skip
    return f"## Cost of the threshold\n\n{render_table(head, lines)}\n\n{NOT_KNOWN_BEFORE}" if lines else ""


def _notes(results: Metrics, rows: Sequence[tuple[str, Metrics]]) -> str:
    """What the tables leave out."""
    inputs, notes = results["inputs"], []
    for images, fault in (
        (inputs["images_without_truth"], "have detections, but no row in the truth: all their detections count as "
                                         "false alarms"),
        (inputs["images_not_searched"], "of the truth were not searched, as detections.csv.json says: all their "
                                        "figures count as missed"),
    ):  # fmt: skip
        if images:
            names = f"{', '.join(images[:3])}{' …' if len(images) > 3 else ''}"
            notes.append(f"- **{len(images):,} images {fault}.** They are {names}.")
    for name, row in rows:
        if row["n_hard_negatives"]:
            share = f"{row['n_hard_negatives_called']:,} of {row['n_hard_negatives']:,}"
            notes.append(f"- {name}: {share} hard negatives are called mitotic figures.")
        if not row["n_figures"]:
            notes.append(f"- {name}: there is no mitotic figure, so AP is not defined. metrics.json holds -1 for it.")
    if results["not_drawn"]:
        notes.append(f"- Not in the pictures, for lack of space: {', '.join(results['not_drawn'])}.")
    return "\n".join(["## Notes", "", *notes]) if notes else ""
