"""How good a study's networks are: out of fold, and on everything that was held out."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from mitoscope.classify.classifier import Classifier
from mitoscope.classify.outliers import describe_crops, find_outliers
from mitoscope.errors import DataError
from mitoscope.files import write_json, write_text
from mitoscope.images.stain import measure_crops
from mitoscope.progress import progress
from mitoscope.provenance import describe_command
from mitoscope.scoring.metrics.bootstrap import bootstrap, bootstrap_rule
from mitoscope.scoring.metrics.calibration import measure_calibration
from mitoscope.scoring.metrics.classification import compute_metrics
from mitoscope.scoring.metrics.groups import Group
from mitoscope.scoring.metrics.named import compare_named, near_threshold
from mitoscope.scoring.metrics.thresholds import BATCH_RULES, THRESHOLD_RULES, Rule
from mitoscope.scoring.plots import plot_confusion_matrices, plot_roc_curves
from mitoscope.scoring.predictions import call_atypical
from mitoscope.training.classify.members import describe_bundle, load_classifier
from mitoscope.training.classify.misses import describe_misses, render_misses
from mitoscope.training.classify.out_of_fold import OutOfFold, read_out_of_fold
from mitoscope.training.classify.tables import (
    BEST,
    Results,
    render_named,
    render_overview,
    render_rules,
    render_table_2,
)
from mitoscope.training.data.table import CropData
from mitoscope.training.folds import Folds
from mitoscope.training.study.study import Study


def evaluate_run(studies: dict[str, Study[CropData]], rule: str, out: Path, *, misses: bool = False) -> str:
    """Evaluate one run: figures.json, tables.md, and where something was held out roc.svg and confusion.svg.

    Args:
        studies: By what each leaves out, as `mitoscope.training.study.study.read_studies` returns them.
        rule: Places the fixed threshold; one of `mitoscope.scoring.metrics.thresholds.THRESHOLD_RULES`.
        out: The folder for the results.
        misses: Also explain the errors on what was held out with the lowest ROC AUC: misses.json, misses.md.

    Returns:
        The tables, in Markdown.

    Raises:
        DataError: The errors are to be explained, and nothing was held out.
    """
    if misses and not any(study.folds.held_out for study in studies.values()):
        raise DataError(
            "--misses explains the errors on what was held out",
            got="studies that hold out nothing",
            expected="a leave-one-out run, or a study with --hold-out",
            remedy="remove --misses",
        )
    results, judged, pictured, predicted = {}, {}, [], {}
    names = {left_out: left_out or study.folder.name for left_out, study in studies.items()}
    evaluated = _evaluate_all({names[left_out]: study for left_out, study in studies.items()}, rule)
    for left_out, study in studies.items():
        name = names[left_out]
        results[name], p_held_out = evaluated[name]
        for what, p_atypical in p_held_out.items():
            if left_out and what.rpartition("=")[2] != left_out:
                continue  # held out of every study: in the overview only, or it would count several times
            judged[left_out or what] = results[name]["held_out"][what]
            predicted[left_out or what] = study, what, p_atypical
            otsu = judged[left_out or what]["rules"]["otsu_of_batch"]["threshold"]  # as in the paper
            is_atypical, case = _truth(study.data, study.folds, what)
            pictured.append(Group.at_threshold(left_out or what, is_atypical, p_atypical, otsu, case))
    tables = render_overview(results)
    if judged:
        tables += "\n" + "\n".join(render(judged) for render in (render_table_2, render_rules, render_named))
    write_results(out, results, tables)
    if misses:
        worst = min(judged, key=lambda name: judged[name]["ensemble"]["roc_auc"])
        tables += "\n" + _write_misses(worst, *predicted[worst], rule, out)
    if pictured:
        plot_roc_curves(pictured, out / "roc.svg")
        plot_confusion_matrices(pictured, out / "confusion.svg")
    return tables


def compare_studies(studies: dict[str, Study[CropData]], rule: str, out: Path) -> str:
    """Evaluate studies side by side, by name: figures.json and one table with a row for each set of crops."""
    results = {name: found for name, (found, _) in _evaluate_all(studies, rule).items()}
    return write_results(out, results, render_overview(results))


def write_results(out: Path, results: dict[str, Results], tables: str, more: Mapping[str, Any] | None = None) -> str:
    """Write the metrics with their provenance to figures.json, and the tables to tables.md.

    Args:
        out: The folder.
        results: By study, as `summarise` returns them.
        tables: In Markdown.
        more: Further provenance.

    Returns:
        The tables.
    """
    write_json(out / "figures.json", {**describe_command(), **(more or {}), "studies": results})
    write_text(out / "tables.md", tables)
    return tables


def _write_misses(name: str, study: Study[CropData], what: str, p_atypical: np.ndarray, rule: str, out: Path) -> str:
    """Write misses.json and misses.md for one hold-out, p_atypical float64 (N,); returns the tables."""
    data, folds = study.data, study.folds
    bundle = describe_bundle(study, read_out_of_fold(study), rule, "unpublished", study.folder)
    reference = data.rows_of(folds.train_ids(*study.members))
    held_out = data.rows_of(list(folds.held_out[what]))
    misses = describe_misses(data, held_out, reference, load_classifier(study, bundle), p_atypical)
    tables = render_misses(name, misses)
    write_json(
        out / "misses.json", {**describe_command(), "held_out": what, "threshold": bundle.threshold.value, **misses}
    )
    write_text(out / "misses.md", tables)
    return tables


def _evaluate_all(studies: dict[str, Study[CropData]], rule: str) -> dict[str, tuple[Results, dict[str, np.ndarray]]]:
    """`_evaluate` of each study, by its name."""
    evaluated = {}
    with progress(len(studies), unit="studies", what="evaluating") as bar:
        for name, study in studies.items():
            evaluated[name] = _evaluate(study, rule)
            bar.update()
    return evaluated


def _evaluate(study: Study[CropData], rule: str) -> tuple[Results, dict[str, np.ndarray]]:
    """One study's metrics and provenance, and the ensemble's P(atypical) of the crops of each hold-out."""
    predictions = read_out_of_fold(study)
    classifier = load_classifier(study, describe_bundle(study, predictions, rule, "unpublished", study.folder))
    p_members = predict_held_out(study.data, study.folds, classifier)
    record = {key: value for key, value in study.record.items() if key != "data"}  # a path of this machine
    results = summarise(study.data, study.folds, classifier, predictions, p_members)
    return {**results, "study": record}, {name: classifier.combine(p) for name, p in p_members.items()}


def predict_held_out(data: CropData, folds: Folds, classifier: Classifier) -> dict[str, np.ndarray]:
    """Each member's probabilities, float64 (M, N), of the crops of each hold-out, by its name."""
    return {
        name: classifier.predict_members(data.crops[data.rows_of(list(image_ids))])
        for name, image_ids in folds.held_out.items()
    }


def summarise(
    data: CropData, folds: Folds, classifier: Classifier, predictions: OutOfFold, p_members: dict[str, np.ndarray]
) -> Results:
    """The metrics of a study or a bundle, all at the bundle's threshold unless stated otherwise.

    Args:
        data: The crops.
        folds: The split.
        classifier: The members.
        predictions: Their out-of-fold predictions.
        p_members: What they predict of each hold-out, as `predict_held_out` returns it.

    Returns:
        ``out_of_fold``: each crop by the one member that never saw its case. ``held_out`` by name: the ``ensemble``,
        the ``single_networks``' mean and standard deviation, and ``rules``: the ensemble's metrics under each rule that
        places a threshold, under the rule that uses the whole batch, and at the best threshold, which is found with the
        labels. All of the ensemble's have 95 % intervals clustered by case. ``named``: ROC AUC of the crops that are
        ``unlike`` the training crops, of the others, and the same for as many crops ``near_threshold``.
    """
    threshold = classifier.bundle.threshold.value
    is_atypical, p_atypical = predictions.is_atypical, classifier.calibrate(predictions.p_atypical)
    fitted = {name: place(is_atypical, p_atypical) for name, place in THRESHOLD_RULES.items()}
    trained = data.rows_of(folds.train_ids(*np.unique(predictions.fold)))
    training_crops = describe_crops(measure_crops(data.crops[trained]))

    def unlike(name: str) -> np.ndarray:
        """The crops of a hold-out that are unlike the training crops, bool (N,)."""
        features = measure_crops(data.crops[data.rows_of(list(folds.held_out[name]))])
        return np.array([bool(names) for names in find_outliers(features, training_crops)])

    return {
        "bundle": classifier.bundle.name,
        "device": f"{classifier.device.type} {classifier.precision}",
        "threshold": threshold,
        "out_of_fold": {
            **compute_metrics(is_atypical, p_atypical, call_atypical(p_atypical, threshold)),
            "calibration": _compare_calibration(is_atypical, predictions.p_atypical, p_atypical),
        },
        "held_out": {
            name: {
                **_held_out(*_truth(data, folds, name), classifier, p, fitted),
                "named": _compare_named(*_truth(data, folds, name), classifier.combine(p), threshold, unlike(name)),
            }
            for name, p in p_members.items()
        },
    }


def _held_out(
    is_atypical: np.ndarray, case: np.ndarray, classifier: Classifier, p_members: np.ndarray, fitted: dict[str, float]
) -> Results:
    """One hold-out's metrics; p_members float64 (M, N)."""
    threshold, p_atypical = classifier.bundle.threshold.value, classifier.combine(p_members)
    singles = [compute_metrics(is_atypical, p, call_atypical(p, threshold)) for p in classifier.calibrate(p_members)]
    best = THRESHOLD_RULES["max_balanced_accuracy"](is_atypical, p_atypical)

    def judge(value: float, rule: Rule | None = None) -> Results:
        """At a threshold; with a rule, which fits it again in each draw of the intervals."""
        called = call_atypical(p_atypical, value)
        intervals = (
            bootstrap_rule(is_atypical, p_atypical, rule, case)
            if rule
            else bootstrap(is_atypical, p_atypical, called, case)
        )
        return {
            "threshold": value,
            **compute_metrics(is_atypical, p_atypical, called),
            "intervals": asdict(intervals),
        }

    rules = {name: judge(value) for name, value in fitted.items()}
    rules |= {name: judge(rule(is_atypical, p_atypical), rule) for name, rule in BATCH_RULES.items()}
    rules[BEST] = judge(best)
    return {
        "ensemble": judge(threshold),
        "single_networks": {
            f"{statistic}_{key}": float(getattr(np, statistic)([single[key] for single in singles]))
            for key in ("roc_auc", "balanced_accuracy")
            for statistic in ("mean", "std")
        },
        "n_networks": len(p_members),
        "calibration": _compare_calibration(is_atypical, p_members.mean(axis=0), p_atypical),
        "rules": rules,
    }


def _compare_named(
    is_atypical: np.ndarray, case: np.ndarray, p_atypical: np.ndarray, threshold: float, unlike: np.ndarray
) -> dict[str, Results]:
    """ROC AUC of the crops that are unlike the training crops, bool (N,), and of as many near the threshold."""
    hints = {"unlike": unlike, "near_threshold": near_threshold(p_atypical, threshold, int(unlike.sum()))}
    return {hint: compare_named(is_atypical, p_atypical, named, case) for hint, named in hints.items()}


def _compare_calibration(is_atypical: np.ndarray, before: np.ndarray, after: np.ndarray) -> dict[str, dict[str, float]]:
    """Calibration error and Brier scores of the networks' own probabilities and of the calibrated ones."""
    return {
        name: {key: value for key, value in asdict(measure_calibration(is_atypical, p)).items() if key != "bins"}
        for name, p in (("before", before), ("after", after))
    }


def _truth(data: CropData, folds: Folds, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Labels, bool (N,), and cases of one hold-out's crops."""
    rows = data.rows_of(list(folds.held_out[name]))
    return data.is_atypical[rows], data.table["case"].iloc[rows].to_numpy()
