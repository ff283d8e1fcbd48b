"""Every metric of labelled predictions, pooled and by domain, as one tree of plain values."""

from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import average_precision_score, roc_auc_score

from mitoscope.classify.tables import member_columns
from mitoscope.classify.task import CLASS_NAMES
from mitoscope.scoring.metrics.calibration import measure_calibration
from mitoscope.scoring.metrics.classification import compute_metrics
from mitoscope.scoring.metrics.groups import Group, spell_domain
from mitoscope.scoring.metrics.sweep import sweep_thresholds
from mitoscope.scoring.predictions import Array, call_atypical

UNDEFINED = ("roc_auc", "average_precision", "balanced_accuracy", "sensitivity", "specificity")
WITHOUT = ("intervals", "calibration", "sweep")


def find_domains(table: pd.DataFrame) -> dict[str, Array]:
    """Say which crops are of which domain.

    Args:
        table: As `mitoscope.scoring.labels.join_labels` gives it.

    Returns:
        By name, numbers in their order and before words: bool (N,). Crops of unknown domain are in none.
    """
    names = sorted(table["domain"].dropna().unique(), key=_natural)
    return {name: (table["domain"] == name).to_numpy(dtype=bool) for name in names}


def make_groups(table: pd.DataFrame, threshold: float | None, seed: int) -> tuple[Group, dict[str, Group]]:
    """The crops that are judged together.

    Args:
        table: As `mitoscope.scoring.labels.join_labels` gives it.
        threshold: The fixed one; None where none explains the classes, which are then taken as they stand.
        seed: Of the intervals.

    Returns:
        All crops; and by name the crops of each domain that has both classes.

    Raises:
        DataError: A class is missing in all crops.
    """
    is_atypical, called = truth_and_calls(table)
    p_atypical, case = table["p_atypical"].to_numpy(), table["case"].to_numpy()

    def take(name: str, rows: Array) -> Group:
        return Group(name, is_atypical[rows], p_atypical[rows], called[rows], threshold, case[rows], seed)

    pooled = take("all crops", np.full(len(table), True))
    whole = {name: rows for name, rows in find_domains(table).items() if len(np.unique(is_atypical[rows])) == 2}
    return pooled, {name: take(spell_domain(name), rows) for name, rows in whole.items()}


def truth_and_calls(table: pd.DataFrame) -> tuple[Array, Array]:
    """Which crops are atypical by their label, and which by their class; bool (N,) each."""
    truth, called = ((table[name] == CLASS_NAMES[1]).to_numpy(dtype=bool) for name in ("label", "class"))
    return truth, called


def judge(table: pd.DataFrame, pooled: Group, groups: dict[str, Group]) -> dict[str, Any]:
    """Compute every metric.

    Args:
        table: As `mitoscope.scoring.labels.join_labels` gives it.
        pooled: All crops, as `make_groups` makes them of it.
        groups: The domains with both classes, as `make_groups` makes them.

    Returns:
        ``pooled``, and by name ``domains``: the metrics of `compute_metrics`, average_precision, intervals
        (None where all crops are of one case), calibration, and sweep (None where no threshold explains the classes).
        In a domain that lacks a class all is None but the counts, the accuracy and the share of the class that is
        there. ``members``, by column: each one's metrics at the same threshold, or ROC AUC alone where there is none.
        ``n_without_domain``: crops of unknown domain.
    """
    is_atypical, called = truth_and_calls(table)
    domains = {
        name: _describe(groups[name]) if name in groups else _describe_one_class(is_atypical[rows], called[rows])
        for name, rows in find_domains(table).items()
    }
    members = member_columns(table)
    return {
        "pooled": _describe(pooled),
        "domains": domains,
        "members": {n: _judge_member(is_atypical, table[n].to_numpy(), pooled.threshold) for n in members},
        "n_without_domain": int(table["domain"].isna().sum()),
    }


def _describe(group: Group) -> dict[str, Any]:
    """One group's metrics."""
    truth, p, threshold = group.is_atypical, group.p_atypical, group.threshold
    return {
        **group.metrics,
        "average_precision": float(average_precision_score(truth, p)),
        "intervals": asdict(group.intervals) if group.intervals else None,
        "calibration": asdict(measure_calibration(truth, p)),
        "sweep": None if threshold is None else asdict(sweep_thresholds(truth, p, threshold)),
    }


def _describe_one_class(is_atypical: Array, called: Array) -> dict[str, Any]:
    """The metrics of a domain that lacks a class."""
    accuracy = float((called == is_atypical).mean())
    return {
        "n_crops": len(is_atypical),
        "n_atypical": int(is_atypical.sum()),
        **dict.fromkeys(UNDEFINED),
        "accuracy": accuracy,
        "sensitivity" if is_atypical[0] else "specificity": accuracy,
        **dict.fromkeys(WITHOUT),
    }


def _judge_member(is_atypical: Array, p_atypical: Array, threshold: float | None) -> dict[str, float]:
    """One member's metrics."""
    if threshold is None:
        return {"roc_auc": float(roc_auc_score(is_atypical, p_atypical))}
    return compute_metrics(is_atypical, p_atypical, call_atypical(p_atypical, threshold))


def _natural(name: str) -> tuple[bool, int, str]:
    """The order of domains: 2 before 10."""
    return (not name.isdecimal(), int(name) if name.isdecimal() else 0, name)
