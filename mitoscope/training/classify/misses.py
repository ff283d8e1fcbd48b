"""Which crops of a cohort that was never trained on are missed, and what is known about them.

The paper leaves open why its networks fail on some domains (Qi et al., arXiv 2509.02589). Here errors are counted by
sub-class, by the experts' agreement, by stain and sharpness, and by the nearest training crops in the networks' own
features.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from mitoscope.classify.classifier import Classifier
from mitoscope.images.stain import FEATURES, measure_crops
from mitoscope.markdown import render_share, render_table
from mitoscope.scoring.metrics.bootstrap import N_DRAWS, cluster_crops, draw_weights, widen
from mitoscope.scoring.predictions import call_atypical
from mitoscope.training.classify.features import embed
from mitoscope.training.classify.tables import Results
from mitoscope.training.data.table import CropData

Groups = dict[str, np.ndarray]  # name of a group → bool (N,), its crops

N_NEIGHBOURS = 10
MEASURED = ("haematoxylin mean", "eosin mean", "sharpness")
ATYPICAL_NEIGHBOURS = {"0 or 1": (0, 1), "2 to 4": (2, 4), "5 to 8": (5, 8), "9 or 10": (9, 10)}
HEAD = ("crops", "atypical", "missed", "normal", "false alarms", "ROC AUC")


def describe_misses(
    data: CropData, rows: np.ndarray, reference: np.ndarray, classifier: Classifier, p_atypical: np.ndarray
) -> Results:
    """Count the errors of a hold-out by what is known about its crops.

    Args:
        data: The crops.
        rows: int64 (N,), the hold-out's.
        reference: int64 (R,), those of the training crops, at least ten.
        classifier: The networks, which never saw the hold-out.
        p_atypical: float64 (N,), their calibrated P(atypical) of the hold-out.

    Returns:
        ``groups``: by question and answer, as `count_errors` returns them; ``missed``: the image ids of the atypical
        crops below the threshold, the lowest probability first.
    """
    table, is_atypical = data.table.iloc[rows], data.is_atypical[rows]
    nearest, distance = find_neighbours(embed(classifier, data.crops[rows]), embed(classifier, data.crops[reference]))
    n_atypical = data.is_atypical[reference][nearest].sum(axis=1)
    features = measure_crops(data.crops[rows])
    questions = {
        **group_by_experts(table, is_atypical),
        **{name: group_by_quarter(features[:, FEATURES.index(name)]) for name in MEASURED},
        f"atypical ones of the {N_NEIGHBOURS} nearest training crops": {
            name: (n_atypical >= low) & (n_atypical <= high) for name, (low, high) in ATYPICAL_NEIGHBOURS.items()
        },
        f"cosine distance to training crop {N_NEIGHBOURS}": group_by_quarter(distance),
    }
    questions = {"": {"all": np.ones(len(rows), dtype=bool)}, **questions}
    case = table["case"].to_numpy()
    missed = np.flatnonzero(is_atypical & ~call_atypical(p_atypical, classifier.threshold))
    return {
        "groups": count_errors(is_atypical, p_atypical, classifier.threshold, questions, case),
        "missed": table["image_id"].iloc[missed[np.argsort(p_atypical[missed], kind="stable")]].tolist(),
    }


def group_by_experts(table: pd.DataFrame, is_atypical: np.ndarray) -> dict[str, Groups]:
    """Group crops by sub-class and by the share of experts who agree with the label, where a source names them.

    A crop counts in the sub-class of each of the two experts, in one or in two groups.
    """
    first, second = table["subclass_1"], table["subclass_2"]
    names = sorted({*first.dropna(), *second.dropna()})
    agree = np.where(is_atypical, table["atypical_votes"], 1 - table["atypical_votes"])
    shares = sorted({round(float(share), 2) for share in agree[~np.isnan(agree)]}, reverse=True)
    questions: dict[str, Groups] = {}
    if names:
        questions["sub-class, by one of two experts"] = {
            name: ((first == name) | (second == name)).to_numpy() for name in names
        }
        named = (first.notna() & second.notna()).to_numpy()
        same = (first == second).to_numpy()
        questions["sub-class of both experts"] = {"the same": named & same, "different": named & ~same}
    if shares:
        questions["experts who agree with the label"] = {
            f"{share:.0%}": np.isclose(agree, share, atol=0.005) for share in shares
        }
    return questions


def group_by_quarter(values: np.ndarray) -> Groups:
    """Group crops into four of equal size, by a value of each, float (N,)."""
    edges = np.quantile(values, (0, 0.25, 0.5, 0.75, 1))
    quarter = np.searchsorted(edges[1:-1], values, side="right")
    return {f"{edges[k]:.3f} to {edges[k + 1]:.3f}": quarter == k for k in range(4)}


def find_neighbours(embedded: np.ndarray, reference: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the ten nearest training crops of each crop, by the members' mean cosine.

    Args:
        embedded: float (M, N, features), as `embed` returns it.
        reference: float (M, R, features), the training crops'.

    Returns:
        int64 (N, 10), the nearest first, and the cosine distance to the last of them, float (N,).
    """
    distance = 1 - np.mean([one @ other.T for one, other in zip(embedded, reference, strict=True)], axis=0)  # (N, R)
    nearest = np.argsort(distance, axis=1, kind="stable")[:, :N_NEIGHBOURS]
    return nearest, np.take_along_axis(distance, nearest[:, -1:], axis=1)[:, 0]


def count_errors(
    is_atypical: np.ndarray, p_atypical: np.ndarray, threshold: float, questions: Mapping[str, Groups], case: np.ndarray
) -> dict[str, dict[str, Results]]:
    """Count missed atypical crops and false alarms in groups of crops.

    Args:
        is_atypical: bool (N,), the labels; both classes.
        p_atypical: float (N,) in [0, 1].
        threshold: A crop is called atypical from it on.
        questions: Groups by what they are grouped by.
        case: (N,), the cases, as `mitoscope.scoring.metrics.bootstrap.bootstrap` takes them.

    Returns:
        By question and group: ``n_atypical``, the share of them that is ``missed``, ``n_normal``, the share of them
        that are ``false_alarms``, and the 95 % ``intervals`` of both shares, from whole cases drawn with replacement;
        None where there is no crop, or no second case. And ``roc_auc``; None where a class is missing.
    """
    called = call_atypical(p_atypical, threshold)
    cluster, _ = cluster_crops(case, len(is_atypical))
    masks = {(question, name): mask for question, groups in questions.items() for name, mask in groups.items()}
    sides = {"missed": (is_atypical, ~called), "false_alarms": (~is_atypical, called)}
    columns = np.stack([mask & side for side, _ in sides.values() for mask in masks.values()], axis=1)  # (N, 2 G)
    wrong = columns & np.repeat(np.stack([error for _, error in sides.values()], axis=1), len(masks), axis=1)
    with np.errstate(invalid="ignore"):  # a draw without a crop of a group is left out
        draws = [
            (w @ wrong) / (w @ columns) for w, _ in draw_weights(cluster, [is_atypical, ~is_atypical], N_DRAWS, seed=0)
        ]
    drawn = np.concatenate(draws)  # (draws, 2 G)
    found: dict[str, dict[str, Results]] = {question: {} for question in questions}
    for number, (question, name) in enumerate(masks):
        mask = masks[question, name]
        both = len(np.unique(is_atypical[mask])) == 2
        auc = float(roc_auc_score(is_atypical[mask], p_atypical[mask])) if both else None
        row: Results = {"roc_auc": auc, "intervals": {}}
        for column, (key, count) in enumerate((("missed", "n_atypical"), ("false_alarms", "n_normal"))):
            index = number + column * len(masks)
            inside = columns[:, index]
            row[count] = int(inside.sum())
            row[key] = float(wrong[inside, index].mean()) if inside.any() else None
            n_clusters = len(np.unique(cluster[inside]))
            row["intervals"][key] = None
            if n_clusters > 1:
                low, high = np.nanpercentile(drawn[:, index], (2.5, 97.5)).tolist()
                row["intervals"][key] = widen((low, high), n_clusters)
        found[question][name] = row
    return found


def render_misses(name: str, misses: Results) -> str:
    """The tables in Markdown; name: of the cohort, misses: as `describe_misses` returns them."""
    parts = [f"The errors on {name}, which no network saw, at the fixed threshold; [95 % interval, cases drawn].\n"]
    for question, groups in misses["groups"].items():
        rows = [[group, *_cells(row)] for group, row in groups.items()]
        parts.append(f"{render_table((question or HEAD[0], *HEAD[1:]), rows)}\n")
    return "\n".join(parts)


def _cells(row: Results) -> list[str]:
    """Counts, shares and ROC AUC of one group."""
    cells = []
    for count, key in (("n_atypical", "missed"), ("n_normal", "false_alarms")):
        cells += [f"{row[count]:,}", render_share(row[key], row["intervals"][key])]
    return [*cells, render_share(row["roc_auc"])]
