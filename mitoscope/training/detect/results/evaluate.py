"""How good a study's detectors are: out of fold, by slide, by set of weights, and on everything that was held out."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from mitoscope.bundle.manifest import Bundle, Threshold
from mitoscope.detect.detector import Detector
from mitoscope.files import write_json, write_text
from mitoscope.progress import progress
from mitoscope.provenance import describe_command
from mitoscope.scoring.detection.evaluate import PICTURES, describe_group
from mitoscope.scoring.detection.regions import Group, Region, make_groups
from mitoscope.scoring.detection.sweep import sweep_regions
from mitoscope.scoring.plots.style import MOST_GROUPS
from mitoscope.training.data.fields import FieldData
from mitoscope.training.detect.results.losses import PICTURE, plot_losses, read_validation_loss
from mitoscope.training.detect.results.members import (
    MEMBER,
    DetectStudy,
    count_fields,
    describe_bundle,
    list_trials,
    load_detector,
    predict_out_of_fold,
    read_state,
)
from mitoscope.training.detect.results.regions import Found, Update, find_points, make_regions
from mitoscope.training.detect.results.tables import Results, render_comparison, render_study
from mitoscope.training.detect.results.threshold import (
    RULE,
    fit_threshold,
    price_threshold,
    split_cases,
    summarise_prices,
)
from mitoscope.training.folds import Folds

SEED = 0  # of the intervals


def evaluate_run(studies: Mapping[str, DetectStudy], out: Path, *, tta: bool = False) -> str:
    """Evaluate one run: figures.json, tables.md, and pictures of what was predicted out of fold by each slide.

    Args:
        studies: By what each leaves out, as `mitoscope.training.study.study.read_studies` returns them.
        out: The folder for the results.
        tta: Compare the eight orientations at once, too.

    Returns:
        The tables, in Markdown.
    """
    results, tables = {}, []
    for left_out, study in studies.items():
        name = left_out or study.folder.name
        found, regions = evaluate_study(study, list_trials(study, tta=tta))
        results[name] = found
        tables.append(render_study(name, found))
        _draw(regions, found["threshold"]["value"], out / left_out)
    return _write(out, results, "\n".join(tables))


def compare_studies(studies: Mapping[str, DetectStudy], out: Path) -> str:
    """Evaluate the published weights of studies side by side, by name: figures.json, one table, and a picture.

    The picture shows the validation loss over the share of the data, where a network learned from two or more.
    """
    losses = {name: read_validation_loss(study) for name, study in studies.items()}
    results = {
        name: {**evaluate_study(study, [MEMBER])[0], "validation_loss": losses[name]} for name, study in studies.items()
    }
    plot_losses(results, out / PICTURE)
    return _write(out, results, render_comparison(results))


def _write(out: Path, results: Mapping[str, Results], tables: str) -> str:
    """Write the metrics with their provenance, and the tables; returns the tables."""
    write_json(out / "figures.json", {**describe_command(), "seed": SEED, "studies": results})
    write_text(out / "tables.md", tables)
    return tables


def evaluate_study(study: DetectStudy, states: Sequence[str]) -> tuple[Results, list[Region]]:
    """Evaluate a study.

    Args:
        study: A finished study.
        states: Of `list_trials`, to compare; the first is evaluated in full.

    Returns:
        As `summarise`, with ``states`` (the out-of-fold metrics of each set of weights) and ``study`` (its record); and
        the first set's regions with its calls.
    """
    n_held_out = sum(map(len, study.folds.held_out.values()))
    compared: dict[str, Results] = {}
    with progress(
        count_fields(study) * len(states) + n_held_out * len(study.members), unit="fields", what="evaluating"
    ) as bar:
        for state in states:
            found = predict_out_of_fold(study, study.members, state, bar.update)
            if state == states[0]:
                first = found
            compared[state] = summarise_state(make_regions(study.data, found, study.record["config"]["classes"][-1]))
        bundle = describe_bundle(study, study.members, study.folder, states[0])
        detector = load_detector(bundle, [read_state(study, fold, states[0]) for fold in study.members])
        bundle, results = summarise(study.data, study.folds, detector, first, bar.update)
    record = {key: value for key, value in study.record.items() if key != "data"}  # a path of this machine
    regions = make_regions(study.data, first, bundle.classes[-1], bundle.threshold.value)
    return {**results, "states": compared, "study": record}, regions


def summarise_state(regions: Sequence[Region]) -> Results:
    """The out-of-fold metrics of one set of weights that no threshold has to be chosen for."""
    group = Group("all regions", regions, None)
    best, (refitted, _) = sweep_regions(group), price_threshold(regions)
    return {
        "AP": group.metrics["AP"],
        "froc_auc": group.metrics["froc_auc"],
        "f1_score_refitted": refitted,
        "best_f1_score": best and best.best_f1_score,
        "best_threshold": best and best.best_threshold,
    }


def summarise(
    data: FieldData, folds: Folds, detector: Detector, found: Found, update: Update = lambda n_done: None
) -> tuple[Bundle, Results]:
    """The metrics of a study or a bundle.

    Args:
        data: The fields.
        folds: The split.
        detector: All members together; the threshold of its bundle is not used.
        found: What networks of the study find out of fold.
        update: Called with 1 after each network has looked at a field that was held out.

    Returns:
        The detector's bundle with the threshold that the out-of-fold predictions give, and the metrics at it.
        ``out_of_fold``: each field by the one network that never saw its slide; ``domains``, ``cases`` and ``folds``
        of it by name. ``price``: of placing the threshold, by slide, see `price_threshold`; ``f1_score_refitted`` is
        F1 with thresholds that the slides themselves had no part in. ``held_out`` by name: the ``ensemble`` of all
        members, and the ``single_networks``' mean and standard deviation. All metrics of the scoring are those of
        `mitoscope.scoring.detection.evaluate.describe_group`, intervals by slide.
    """
    label = detector.bundle.classes[-1]
    threshold = fit_threshold(make_regions(data, found, label))
    fitted = Threshold(threshold, RULE, "out-of-fold", len(found.rows))
    regions = make_regions(data, found, label, threshold)
    pooled, domains, _ = make_groups(regions, threshold)
    refitted, prices = price_threshold(regions)
    by_fold = {int(fold): make_regions(data, found.of_fold(fold), label, threshold) for fold in np.unique(found.fold)}
    results = {
        "bundle": detector.bundle.name,
        "device": f"{detector.device.type} {detector.precision}",
        "threshold": asdict(fitted),
        "out_of_fold": describe_group(pooled, SEED),
        "domains": {name: describe_group(group, SEED) for name, group in domains.items()},
        "cases": {
            name: describe_group(Group(name, own, threshold), SEED) for name, own in split_cases(regions).items()
        },
        "folds": {str(fold): describe_group(Group(f"fold {fold}", own, threshold), SEED)
                  for fold, own in by_fold.items()},
        "price": {
            "f1_score_refitted": refitted,
            "summary": summarise_prices(prices),
            "cases": {name: asdict(price) for name, price in prices.items()},
        },
        "held_out": {
            name: _judge_held_out(data, data.rows_of(list(ids)), detector, threshold, update)
            for name, ids in folds.held_out.items()
        },
    }  # fmt: skip
    return replace(detector.bundle, threshold=fitted), results


def _judge_held_out(data: FieldData, rows: np.ndarray, detector: Detector, threshold: float, update: Update) -> Results:
    """All members together and one by one on what was held out."""
    label, members = detector.bundle.classes[-1], detector.members

    def judge(some: Detector, update: Update) -> Group:
        regions = make_regions(data, find_points(some, data, rows, update=update), label, threshold)
        return Group("held out", regions, threshold)

    singles = [judge(detector.alone(number), update) for number in range(len(members))]
    together = judge(detector, lambda n_done: None) if len(members) > 1 else singles[0]
    return {
        "ensemble": describe_group(together, SEED),
        "n_networks": len(members),
        "single_networks": {
            f"{statistic}_{key}": float(getattr(np, statistic)([group.metrics[key] or 0.0 for group in singles]))
            for key in ("f1_score", "AP")
            for statistic in ("mean", "std")
        },
    }


def _draw(regions: Sequence[Region], threshold: float, out: Path) -> None:
    """Curves of all fields and of each slide, of the slides with most figures where there are many."""
    cases = [Group(name, own, threshold) for name, own in split_cases(regions).items()]
    cases = [group for group in cases if group.counts[2].any()]
    largest = sorted(cases, key=lambda group: -int(group.counts[2].sum()))[: MOST_GROUPS - 1]
    groups = [Group("all slides", regions, threshold), *(group for group in cases if group in largest)]
    out.mkdir(parents=True, exist_ok=True)
    for name, plot in PICTURES.items():
        plot(groups, out / name)
