"""What a study's networks are worth: out of fold, and on everything that was held out."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from mitoscope.classify.classifier import Classifier
from mitoscope.files import write_json
from mitoscope.provenance import describe_machine, read_commit
from mitoscope.scoring.metrics.bootstrap import bootstrap
from mitoscope.scoring.metrics.classification import figures
from mitoscope.scoring.metrics.groups import Group
from mitoscope.scoring.metrics.thresholds import BATCH_RULES, THRESHOLD_RULES, Rule
from mitoscope.scoring.plots import plot_confusion_matrices, plot_roc_curves
from mitoscope.training.members import describe_bundle, load_classifier
from mitoscope.training.study.study import Study
from mitoscope.training.tables import BEST, render_overview, render_rules, render_table_2

Results = dict[str, Any]


def evaluate_run(studies: dict[str, Study], rule: str, out: Path) -> str:
    """Evaluate one run: figures.json, tables.md, and where something was held out roc.svg and confusion.svg.

    Args:
        studies: By what each leaves out, as `mitoscope.training.study.study.read_studies` gives them.
        rule: Places the fixed threshold; one of `mitoscope.scoring.metrics.thresholds.THRESHOLD_RULES`.
        out: The folder for the results.

    Returns:
        The tables, in Markdown.
    """
    results, judged, pictured = {}, {}, []
    for left_out, study in studies.items():
        name = left_out or study.folder.name
        results[name], p_members = _evaluate(study, rule)
        for what, p in p_members.items():
            if left_out and what.rpartition("=")[2] != left_out:
                continue  # what is held out of every study stands in the overview; here it would count several times
            judged[left_out or what] = results[name]["held_out"][what]
            otsu = judged[left_out or what]["rules"]["otsu_of_batch"]["threshold"]  # as in the paper
            is_atypical, case = _truth(study, what)
            pictured.append(Group(left_out or what, is_atypical, p.mean(axis=0), otsu, case))
    tables = render_overview(results)
    if judged:
        tables += "\n" + render_table_2(judged) + "\n" + render_rules(judged)
    _write(out, results, tables)
    if pictured:
        plot_roc_curves(pictured, out / "roc.svg")
        plot_confusion_matrices(pictured, out / "confusion.svg")
    return tables


def compare_studies(studies: dict[str, Study], rule: str, out: Path) -> str:
    """Evaluate studies side by side, by name: figures.json and one table with a row for each set of crops."""
    results = {name: _evaluate(study, rule)[0] for name, study in studies.items()}
    return _write(out, results, render_overview(results))


def _write(out: Path, results: dict[str, Results], tables: str) -> str:
    """Write the figures with what made them, and the tables; which are returned."""
    provenance = {
        "command": f"mitoscope train {' '.join(sys.argv[1:])}",
        "commit": read_commit(),
        "machine": describe_machine(),
    }
    write_json(out / "figures.json", {**provenance, "studies": results})
    (out / "tables.md").write_text(tables, encoding="utf-8")
    return tables


def _evaluate(study: Study, rule: str) -> tuple[Results, dict[str, np.ndarray]]:
    """One study's figures and provenance, and its members' probabilities of what was held out."""
    bundle = describe_bundle(study, rule, study.folder.name, study.folder)
    classifier = load_classifier(study, bundle)
    p_members = predict_held_out(study, classifier)
    record = {key: value for key, value in study.record.items() if key != "data"}  # a path of this machine
    return {**summarise(study, classifier, p_members), "study": record}, p_members


def predict_held_out(study: Study, classifier: Classifier) -> dict[str, np.ndarray]:
    """Each member's probabilities, float64 (M, N), of the crops of each hold-out, by its name."""
    return {
        name: classifier.predict_members(study.data.crops[study.data.rows_of(list(image_ids))])
        for name, image_ids in study.folds.held_out.items()
    }


def summarise(study: Study, classifier: Classifier, p_members: dict[str, np.ndarray]) -> Results:
    """The figures of one study, all at the bundle's threshold unless said otherwise.

    Returns:
        ``out_of_fold``: each crop by the one member that never saw its case. ``held_out`` by name: the ``ensemble``,
        the ``single_networks``' mean and standard deviation, and ``rules``: what the ensemble's figures become under
        each rule that places a threshold, that which looks at the whole batch, and the best threshold that there is,
        which only the labels could tell. All of the ensemble's with 95 % intervals clustered by case.
    """
    threshold = classifier.bundle.threshold.value
    predictions = study.out_of_fold()
    is_atypical = (predictions["label"] == "atypical").to_numpy()
    p_atypical = predictions["p_atypical"].to_numpy()
    fitted = {name: place(is_atypical, p_atypical) for name, place in THRESHOLD_RULES.items()}
    return {
        "bundle": classifier.bundle.name,
        "device": f"{classifier.device.type} {classifier.precision}",
        "threshold": threshold,
        "out_of_fold": figures(is_atypical, p_atypical, threshold),
        "held_out": {name: _held_out(study, name, p, threshold, fitted) for name, p in p_members.items()},
    }


def _held_out(study: Study, name: str, p_members: np.ndarray, threshold: float, fitted: dict[str, float]) -> Results:
    """One hold-out's figures; p_members float64 (M, N)."""
    is_atypical, case = _truth(study, name)
    p_atypical = p_members.mean(axis=0)
    singles = [figures(is_atypical, p, threshold) for p in p_members]
    best = THRESHOLD_RULES["max_balanced_accuracy"](is_atypical, p_atypical)

    def judge(rule: float | Rule) -> Results:
        """At a fixed threshold, or at one that is fitted on the batch, and again in each draw of the intervals."""
        value = rule(is_atypical, p_atypical) if callable(rule) else rule
        intervals = asdict(bootstrap(is_atypical, p_atypical, rule, case))
        return {"threshold": value, **figures(is_atypical, p_atypical, value), "intervals": intervals}

    rules: dict[str, float | Rule] = {**fitted, **BATCH_RULES, BEST: best}
    return {
        "ensemble": judge(threshold),
        "single_networks": {
            f"{statistic}_{key}": float(getattr(np, statistic)([single[key] for single in singles]))
            for key in ("roc_auc", "balanced_accuracy")
            for statistic in ("mean", "std")
        },
        "n_networks": len(p_members),
        "rules": {name: judge(rule) for name, rule in rules.items()},
    }


def _truth(study: Study, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Labels, bool (N,), and cases of one hold-out's crops."""
    rows = study.data.rows_of(list(study.folds.held_out[name]))
    return study.data.is_atypical[rows], study.data.table["case"].iloc[rows].to_numpy()
