"""The top of a report: metrics with intervals, counts, and a histogram of the probabilities."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from mitoscope.classify.tables import member_columns
from mitoscope.classify.task import CLASS_NAMES
from mitoscope.scoring.predictions import Array

N_BINS = 20
NEAR = 0.05  # of the threshold
APART = 0.5  # the members
METRICS = {  # by their keys in mitoscope.scoring.metrics.judge, and what they mean to a pathologist
    "balanced_accuracy": ("Balanced accuracy", "mean of sensitivity and specificity"),
    "roc_auc": ("ROC AUC", "chance that an atypical crop scores higher than a normal one"),
    "sensitivity": ("Sensitivity", "share of the atypical crops that are found"),
    "specificity": ("Specificity", "share of the normal crops that are called so"),
}
OUTCOMES = ("true normal", "false alarm", "missed", "true atypical")  # as the page's script names them


def describe_metrics(judged: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The pooled metrics or one domain's, as `judge` gives them, in the order of the page.

    Returns:
        name, meaning, value in [0, 1] (None where a class is missing) and the 95 % interval (None where there is none).
    """
    return [
        {
            "name": name,
            "meaning": meaning,
            "value": judged[key],
            "interval": judged["intervals"][key] if judged["intervals"] else None,
        }
        for key, (name, meaning) in METRICS.items()
    ]


def describe_intervals(drawn: Mapping[str, Any] | None) -> str:
    """A sentence on how the pooled intervals were computed; drawn: the fields of `Intervals`."""
    if drawn is None:
        return "All crops are of one case, so there are no intervals."
    if not drawn["n_without_case"]:
        return f"95 % intervals: bootstrap of {drawn['n_cases']:,} whole cases, {drawn['n_draws']:,} draws."
    which = "Where the case is not known, crops are" if drawn["n_cases"] else "The cases are not known, so crops are"
    return (
        f"95 % intervals: bootstrap, {drawn['n_draws']:,} draws. {which} drawn one by one, "
        "which makes the intervals too narrow if some share a case."
    )


def count_outcomes(table: pd.DataFrame) -> dict[str, int]:
    """How many crops have each outcome."""
    number = 2 * _is(table["label"]) + _is(table["class"])
    return dict(zip(OUTCOMES, np.bincount(number, minlength=4).tolist(), strict=True))


def count_crops(table: pd.DataFrame, threshold: float, unlike: Mapping[str, Sequence[str]] | None) -> dict[str, Any]:
    """How sure the networks are, in numbers of crops."""
    members = table[member_columns(table)].to_numpy()  # (N, members)
    above = (members >= threshold).sum(axis=1)
    spread = members.max(axis=1) - members.min(axis=1) if members.size else np.zeros(len(table))
    return {
        "n_crops": len(table),
        "n_called": int(_is(table["class"]).sum()),
        "n_labelled_atypical": int(_is(table["label"]).sum()) if "label" in table else None,
        "near": NEAR,
        "n_near": int((np.abs(table["p_atypical"] - threshold) <= NEAR).sum()),
        "n_split": int(((above > 0) & (above < members.shape[1])).sum()),
        "apart": APART,
        "n_apart": int((spread >= APART).sum()),
        "n_unlike": sum(map(bool, (unlike or {}).values())),
    }


def make_histogram(table: pd.DataFrame) -> dict[str, Any]:
    """The crops in each twentieth of [0, 1], by label if there are labels; with a text for screen readers."""
    edges = np.arange(N_BINS + 1) / N_BINS
    parts = {"all": ("crops", table)}
    if "label" in table:
        parts = {kind: (f"labelled {kind}", table[table["label"] == kind]) for kind in CLASS_NAMES}
    series = [
        {"kind": kind, "name": name, "counts": np.histogram(part["p_atypical"], edges)[0].tolist()}
        for kind, (name, part) in parts.items()
    ]
    largest = max(1, *(count for one in series for count in one["counts"]))
    low, middle, high = table["p_atypical"].quantile([0.25, 0.5, 0.75])
    return {
        "series": series,
        "n_bins": N_BINS,
        "largest": largest,
        "ticks": _ticks(largest),
        "alt": f"Histogram of P(atypical): half of the crops lie between {low:.3f} and {high:.3f}, median {middle:.3f}",
    }


def _ticks(largest: int) -> list[int]:
    """Whole, round numbers from 0 to the largest, five at most."""
    steps = (factor * 10**power for power in range(12) for factor in (1, 2, 5))
    step = next(step for step in steps if largest / step < 5)
    return list(range(0, largest + 1, step))


def _is(names: pd.Series) -> Array:
    """bool (N,): where the class is atypical."""
    return (names == CLASS_NAMES[1]).to_numpy()
