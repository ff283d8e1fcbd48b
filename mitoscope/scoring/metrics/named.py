"""Do the crops that a hint names rank worse than the others?"""

import numpy as np

from mitoscope.scoring.metrics.bootstrap import N_DRAWS, Interval, cluster_crops, draw_weights
from mitoscope.scoring.metrics.classification import weighted_roc_auc
from mitoscope.scoring.predictions import Array, check_called, check_predictions


def compare_named(
    is_atypical: Array, p_atypical: Array, named: Array, case: Array | None = None
) -> dict[str, int | float | Interval | None]:
    """Compare the ROC AUC of some crops with that of the others.

    Args:
        is_atypical: bool (N,), both classes.
        p_atypical: float (N,) in [0, 1].
        named: bool (N,), the crops that the hint names.
        case: As for `mitoscope.scoring.metrics.bootstrap.bootstrap`.

    Returns:
        ``n_named``, ``roc_auc_named``, ``roc_auc_others``, their ``difference``, the others' less the named crops', and
        its 95 % ``interval`` from whole cases drawn with replacement; ``n_redrawn``: draws in which a side lacked a
        class, which were replaced. All but the first count are None where a side lacks a class.

    Raises:
        DataError: The predictions, the named crops or the cases are unusable, or all crops are of one case.
    """
    is_atypical, p_atypical = check_predictions(is_atypical, p_atypical)
    named = check_called(named, len(is_atypical))
    cluster, _ = cluster_crops(case, len(is_atypical))
    found: dict[str, int | float | Interval | None] = {"n_named": int(named.sum())}
    if any(len(np.unique(is_atypical[side])) < 2 for side in (named, ~named)):
        return found | dict.fromkeys(("roc_auc_named", "roc_auc_others", "difference", "interval", "n_redrawn"))

    def compute(weights: Array) -> Array:
        """ROC AUC of the named and of the others, float (2, B); weights int (B, N)."""
        return np.stack([weighted_roc_auc(is_atypical[s], p_atypical[s], weights[:, s]) for s in (named, ~named)])

    auc_named, auc_others = compute(np.ones((1, len(named)), dtype=int))[:, 0].tolist()
    needed = [side & label for side in (named, ~named) for label in (is_atypical, ~is_atypical)]
    draws = [(compute(weights), n_lacking) for weights, n_lacking in draw_weights(cluster, needed, N_DRAWS, seed=0)]
    drawn = np.concatenate([statistics for statistics, _ in draws], axis=1)
    low, high = np.percentile(drawn[1] - drawn[0], (2.5, 97.5)).tolist()
    return found | {
        "roc_auc_named": auc_named,
        "roc_auc_others": auc_others,
        "difference": auc_others - auc_named,
        "interval": (low, high),
        "n_redrawn": sum(n_lacking for _, n_lacking in draws),
    }


def near_threshold(p_atypical: Array, threshold: float, count: int) -> Array:
    """The crops whose probability is nearest to the threshold, in logits: bool (N,), ``count`` of them.

    What any hint should be compared with: these are known without one, and rank badly by definition.
    """
    p, at = (np.clip(value, 1e-12, 1 - 1e-12) for value in (p_atypical, threshold))
    distance = np.abs(np.log(p / (1 - p)) - np.log(at / (1 - at)))
    named = np.zeros(len(p), dtype=bool)
    named[np.argsort(distance, kind="stable")[:count]] = True
    return named
