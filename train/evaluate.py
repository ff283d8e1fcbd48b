"""What a study's networks are worth: out of fold, and on everything that was held out."""

from pathlib import Path
from typing import Any

import numpy as np

from model.ensemble import Ensemble
from train.figures import figures
from train.study import Study


def evaluate(study: Study, bundle: Path) -> dict[str, Any]:
    """Score a published study through the very code that the container runs.

    Args:
        study: A finished study.
        bundle: What was published from it.

    Returns:
        ``out_of_fold`` (each crop by the one member that never saw its case), ``held_out`` by name, each with
        the ``ensemble`` and the ``single_networks``' mean and standard deviation; all at the bundle's threshold.
    """
    ensemble = Ensemble.load(bundle)
    threshold = ensemble.bundle.threshold.value
    predictions = study.out_of_fold()
    is_atypical = (predictions["label"] == "atypical").to_numpy()
    results: dict[str, Any] = {
        "bundle": ensemble.bundle.name,
        "device": f"{ensemble.device.type} {ensemble.precision}",
        "threshold": threshold,
        "out_of_fold": figures(is_atypical, predictions["p_atypical"].to_numpy(), threshold),
        "held_out": {},
    }
    for name, image_ids in study.folds.held_out.items():
        rows = study.data.rows_of(list(image_ids))
        p_members = ensemble.predict_members(study.data.crops[rows])  # (5, N)
        truth = study.data.is_atypical[rows]
        singles = [figures(truth, p_atypical, threshold) for p_atypical in p_members]
        results["held_out"][name] = {
            "ensemble": figures(truth, p_members.mean(axis=0), threshold),
            "single_networks": {
                f"{statistic}_{key}": float(getattr(np, statistic)([single[key] for single in singles]))
                for key in ("roc_auc", "balanced_accuracy")
                for statistic in ("mean", "std")
            },
        }
    return results
