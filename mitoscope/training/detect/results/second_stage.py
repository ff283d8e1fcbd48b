"""A second stage: do a classifier's features tell the detector's candidates apart, and how much tissue do they need?

Marzahl et al., *A bag of tricks for real-time mitotic figure detection*, 2025 (arXiv 2508.19804), leave open whether a
second network that looks at each candidate helps. Here a logistic regression sees the features of a network that was
trained on crops of figures, of crops of several sizes. Every candidate is judged by regressions that were fitted to the
candidates of other folds, which networks found that had not seen them either.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.special import logit

from mitoscope.bundle.inputs import InputSpec
from mitoscope.classify.classifier import Classifier
from mitoscope.errors import DataError
from mitoscope.files import write_json, write_text
from mitoscope.images import CROP_PX
from mitoscope.progress import progress
from mitoscope.provenance import describe_command
from mitoscope.scoring.report.detections import read_crop
from mitoscope.training.classify.features import embed
from mitoscope.training.data.fields import FieldData
from mitoscope.training.detect.results.evaluate import summarise_state
from mitoscope.training.detect.results.members import MEMBER, DetectStudy, count_fields, predict_out_of_fold
from mitoscope.training.detect.results.regions import Found, check_least, make_regions, open_field
from mitoscope.training.detect.results.tables import render_states
from mitoscope.training.foundation.probe.heads import UNI, ProbeSettings, fit_head

PROBE = ProbeSettings(c=UNI)
WEIGHTS_OF_TWO = ProbeSettings(c="1", standardise=False)  # of the detector's logit and the features' one
LEAST_FOLDS = 3  # one is judged; of the others each is judged by the rest to fit `WEIGHTS_OF_TWO`


def examine_second_stage(
    study: DetectStudy, classifier: Classifier, crops_px: Sequence[int], least: float, out: Path
) -> str:
    """Judge a study's candidates a second time: second-stage.json and tables.md.

    Args:
        study: A finished study of three folds or more.
        classifier: Its first member gives the features.
        crops_px: Sides of the crops around a candidate, at the µm per pixel of the classifier, even and 128 px at most.
            Each is resized to the classifier's input. Coarser fields are enlarged first.
        least: Probability of a candidate.
        out: The folder for the results.

    Returns:
        The table, in Markdown: the detector alone; for each size the features alone, and both.

    Raises:
        DataError: ``least`` or a size is out of range, or there are too few folds or candidates to fit to.
    """
    check_least(least)
    for side_px in crops_px:
        _check_side(side_px)
    if len(study.members) < LEAST_FOLDS:
        raise DataError(
            "a second stage needs more folds",
            got=len(study.members),
            expected=f"{LEAST_FOLDS} or more",
            remedy="run train run again with more --members: it fits only what is missing",
        )
    with progress(count_fields(study), unit="fields", what="detecting") as bar:
        found = predict_out_of_fold(study, study.members, MEMBER, bar.update, least)
    label, counts = study.record["config"]["classes"][-1], [len(points) for points in found.points]
    regions = make_regions(study.data, found, label)
    right = np.concatenate([region.right for region in regions])
    first, fold = logit(np.concatenate(found.points)[:, 2]), np.repeat(found.fold, counts)
    _check_candidates(right, fold)
    crops = cut_candidates(study.data, found, classifier.bundle.input)
    results = {"detector alone": summarise_state(regions)}
    for side_px in crops_px:
        features = embed(_look_at(classifier, side_px), crops)[0]
        alone, both = judge_again(features, first, right, fold)
        for name, p in ((f"features of {side_px} px alone", alone), (f"detector and features of {side_px} px", both)):
            results[name] = summarise_state(make_regions(study.data, _replace(found, p), label))
    n_right = int(right.sum())
    text = f"{len(right):,} candidates from a probability of {least:g} on, {n_right:,} of them figures."
    text += f"\n\n{render_states(results)}"
    described = {"study": study.folder.name, "classifier": classifier.bundle.name, "least": least,
                 "n_candidates": len(right), "n_right": n_right}  # fmt: skip
    write_json(out / "second-stage.json", {**describe_command(), **described, "rows": results})
    write_text(out / "tables.md", f"{text}\n")
    return text


def cut_candidates(data: FieldData, found: Found, spec: InputSpec) -> np.ndarray:
    """The tissue around each point, in the points' order: uint8 (P, 128, 128, 3), at the µm per pixel of ``spec``."""
    crops = []
    for row, points in zip(found.rows.tolist(), found.points, strict=True):
        field = open_field(data, row)
        crops += [read_crop(field, x, y, spec.mpp, spec.interpolation) for x, y, _ in points.tolist()]
    return np.stack(crops)


def judge_again(
    features: np.ndarray, first: np.ndarray, right: np.ndarray, fold: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of a second stage, each from what was fitted to other folds.

    Args:
        features: float (P, D), of each candidate.
        first: float (P,), the detector's logits.
        right: bool (P,), whether it is a figure.
        fold: int (P,), whose network found it.

    Returns:
        float64 (P,) in (0, 1), from the features alone; and from both logits, whose weights are fitted to candidates
        that the features' regression did not see.
    """
    alone, both = np.empty(len(first)), np.empty(len(first))
    for own in np.unique(fold):
        judged, others = fold == own, np.flatnonzero(fold != own)
        inner = np.empty(len(first))
        for other in np.unique(fold[others]):
            inner[fold == other] = _predict(PROBE, features, right, others[fold[others] != other], fold == other)
        alone[judged] = inner[judged] = _predict(PROBE, features, right, others, judged)
        pair = np.column_stack([first, logit(inner.clip(1e-6, 1 - 1e-6))])
        both[judged] = _predict(WEIGHTS_OF_TWO, pair, right, others, judged)
    return alone, both


def _predict(
    settings: ProbeSettings, features: np.ndarray, right: np.ndarray, fitted: np.ndarray, judged: np.ndarray
) -> np.ndarray:
    """Fit a regression to some candidates; its probabilities of others."""
    return fit_head(settings, features[:, None], right, fitted, []).predict(features[judged, None])


def _look_at(classifier: Classifier, side_px: int) -> Classifier:
    """The first member, which sees a crop's middle of another size."""
    first = classifier.alone(0)
    bundle = replace(first.bundle, input=replace(first.bundle.input, crop_px=side_px))
    return Classifier(bundle, first.members, first.device, first.precision)


def _check_side(side_px: int) -> None:
    """Refuse a crop that cannot be cut."""
    if side_px % 2 or not 2 <= side_px <= CROP_PX:
        raise DataError(
            "--crop-px cannot be used", got=side_px, expected=f"an even number from 2 to {CROP_PX}", remedy="correct it"
        )


def _check_candidates(right: np.ndarray, fold: np.ndarray) -> None:
    """Refuse candidates of which some regression, fitted to all folds but two, would see one kind alone."""
    for kind, word in ((right, "figures"), (~right, "other candidates")):
        holding = np.unique(fold[kind])
        if len(holding) < LEAST_FOLDS:
            raise DataError(
                "there are too few candidates for a second stage",
                got=f"{word} in {len(holding)} folds",
                expected=f"some in {LEAST_FOLDS} folds or more",
                remedy="lower --least, or train longer",
            )


def _replace(found: Found, p: np.ndarray) -> Found:
    """The same points with other probabilities."""
    ends = np.cumsum([len(points) for points in found.points])[:-1]
    parts = zip(found.points, np.split(p, ends), strict=True)
    return replace(found, points=[np.column_stack([points[:, :2], own]) for points, own in parts])
