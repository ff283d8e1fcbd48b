"""A finished study of detectors → a weights bundle with its threshold, provenance and model card."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mitoscope.bundle.manifest import PRECISIONS, Bundle
from mitoscope.bundle.members import write_bundle
from mitoscope.detect.detector import Detector
from mitoscope.errors import DataError
from mitoscope.markdown import render_table
from mitoscope.progress import progress
from mitoscope.scoring.detection.regions import Group
from mitoscope.training.data.fields import FieldData
from mitoscope.training.data.samples import TRAIN_ONLY
from mitoscope.training.detect.results.card import render_card
from mitoscope.training.detect.results.evaluate import summarise
from mitoscope.training.detect.results.members import (
    MEMBER,
    DetectStudy,
    check_state,
    count_fields,
    describe_bundle,
    load_detector,
    predict_out_of_fold,
    read_state,
)
from mitoscope.training.detect.results.regions import Found, Update, find_points, join_found, make_regions
from mitoscope.training.detect.results.rounding import choose_fields, measure_roundings
from mitoscope.training.detect.results.tables import COLUMNS, overview_rows
from mitoscope.training.folds import WHOLE
from mitoscope.training.study.study import name_fit

MEMBER_METRICS = ("f1_score", "precision", "recall", "AP")  # out of fold, in the manifest
TOLERANCE = 0.02  # of a member's average precision, for weights that were rounded to fp16


def publish(
    study: DetectStudy, out: Path, folds: Sequence[int] = (), state: str = MEMBER, *, whole: bool = False
) -> str:
    """Fit the threshold on what every network of the study finds out of fold; write the bundle and its card.

    Args:
        study: A finished study.
        out: The bundle's folder; an older bundle there is replaced. Its name is the bundle's.
        folds: Whose members the bundle holds; empty: all of them. A bundle of fewer is faster.
        state: Which of the members' weights, see `mitoscope.training.detect.results.members.list_states`.
        whole: The bundle holds the one member that all folds trained. Its threshold and its metrics are those of the
            members of the folds, one by one: no field is left to measure it on.

    Returns:
        The card's table, in Markdown. Its metrics are those of the bundle as written, by the code that the container
        runs; those of members that are not in it are of the weights as they were fitted.

    Raises:
        DataError: The study learned from a share of the fields, a fold, a set of weights or the whole member is not its
            own, a member changed when it was written, or the networks find nothing.
        WeightsError: The folder holds something else than a bundle.
    """
    if whole and (folds or not study.has_whole):
        raise DataError(
            "--whole cannot be published",
            got="--members too" if folds else "a study without such a member",
            expected="a study that train run --whole wrote, and no --members",
            remedy="run train run again with --whole: it fits only what is missing" if not folds else "remove one",
        )
    if unknown := set(folds) - set(study.members):
        raise DataError(
            "--members names folds that were not fitted",
            got=sorted(unknown),
            expected=f"any of {list(study.members)}",
            remedy="correct it",
        )
    if (share := study.record["config"].get("data_share", 1.0)) < 1:
        raise DataError(
            "a study of a share of the fields cannot be published",
            got=f"data_share={share:g}",
            expected="a study of all fields: the manifest names what a detector was trained on",
            remedy="run train run again without that setting",
        )
    folds = [WHOLE] if whole else sorted(set(folds)) or list(study.members)
    check_state(study, state)
    described = describe_bundle(study, folds, out.resolve(), state)  # "." has no name
    states = [read_state(study, fold, state) for fold in folds]
    # A member that all folds trained is looked at on the first fold's fields.
    shown = {fold: study.folds.folds[0 if fold == WHOLE else fold] for fold in folds}
    n_steps = count_fields(study) + (1 + whole) * sum(map(len, shown.values()))
    n_steps += len(folds) * sum(map(len, study.folds.held_out.values()))
    looked_at = choose_fields(study.data.rows_of([name for fold in study.members for name in study.folds.folds[fold]]))
    n_steps += (1 + len(PRECISIONS)) * len(looked_at)
    # An older bundle is replaced only by one that passed its trial.
    with TemporaryDirectory() as scratch, progress(n_steps, unit="fields", what="publishing") as bar:
        trial = write_bundle(replace(described, folder=Path(scratch) / described.folder.name), states)
        detector = Detector.load(trial.folder, precision="fp32")
        fitted = predict_out_of_fold(study, study.members, state, bar.update)
        found = {fold: fitted.of_fold(fold) for fold in study.members}
        if whole:
            rows = study.data.rows_of(list(shown[WHOLE]))
            found[WHOLE] = find_points(load_detector(described, states), study.data, rows, WHOLE, bar.update)
        for number, fold in enumerate(folds):
            again = _look_again(detector, number, study.data, found[fold], bar.update)
            _check(study.data, found[fold], again, trial)
            found[fold] = again
        out_of_fold = join_found([found[fold] for fold in study.members])
        bundle, results = summarise(study.data, study.folds, detector, out_of_fold, bar.update)
        rounding = measure_roundings(trial.folder, bundle.threshold.value, study.data, looked_at, bar.update)
    members = tuple(
        replace(each, metrics=_pick(results["folds"].get(str(each.fold), {}))) for each in described.members
    )
    bundle = replace(
        described,
        threshold=bundle.threshold,
        members=members,
        rounding=rounding,
        training={**described.training, "out_of_fold": _describe_out_of_fold(results["out_of_fold"])},
    )
    with_figures = _share_with_figures(study, folds)
    write_bundle(bundle, states, files={"README.md": render_card(bundle, results, with_figures)})
    return render_table(COLUMNS, list(overview_rows(results)))


def _look_again(detector: Detector, number: int, data: FieldData, found: Found, update: Update) -> Found:
    """One member as written, on the fields of its fold."""
    return find_points(detector.alone(number), data, found.rows, int(found.fold[0]), update)


def _check(data: FieldData, fitted: Found, written: Found, bundle: Bundle) -> None:
    """Refuse a member whose average precision changed when it was written."""
    before, after = (
        Group("fold", make_regions(data, found, bundle.classes[-1]), None).metrics["AP"] or 0.0
        for found in (fitted, written)
    )
    if not abs(after - before) <= TOLERANCE:
        fold = int(fitted.fold[0])
        raise DataError(
            f"the member {name_fit(fold)} changed when it was written",
            got=f"an average precision of {after:.4f}, {before:.4f} before",
            expected=f"a difference of at most {TOLERANCE}",
            remedy=f"delete {name_fit(fold)} of the study and run the study again; please report this",
        )


def _pick(metrics: Mapping[str, Any]) -> dict[str, float]:
    """What the manifest holds of some metrics; nothing of a member that all folds trained, which has none."""
    return {key: metrics[key] for key in MEMBER_METRICS if metrics.get(key) is not None}


def _describe_out_of_fold(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """What the manifest holds of all slides: `MEMBER_METRICS`, and their 95 % intervals where they are known."""
    found = (metrics["intervals"] or {}).get("metrics", {})
    return {**_pick(metrics), "intervals": {key: found[key] for key in MEMBER_METRICS if found.get(key)}}


def _share_with_figures(study: DetectStudy, folds: Sequence[int]) -> float:
    """The share of the training fields that hold a figure, without those that never validate."""
    data = study.data.table
    usual = set(data.loc[data["part"] != TRAIN_ONLY, "image_id"])
    trained = set(study.folds.train_ids(*folds)) & usual
    labels = study.record["config"]["classes"][-1:]
    return len(trained & set(study.data.points.loc[study.data.points["label"].isin(labels), "image_id"])) / len(trained)
