"""A finished study as a bundle: its manifest, its tensors, and a classifier of them before anything is written."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
from torch import Tensor

from mitoscope.bundle.inputs import InputSpec
from mitoscope.bundle.manifest import Base, Bundle, Calibration, Member, Threshold
from mitoscope.classify.calibrate import calibrate
from mitoscope.classify.classifier import Classifier
from mitoscope.classify.orientation import choose_orientations
from mitoscope.errors import DataError
from mitoscope.networks.device import choose_device
from mitoscope.scoring.metrics.classification import compute_metrics
from mitoscope.scoring.metrics.platt import fit_platt
from mitoscope.scoring.metrics.thresholds import THRESHOLD_RULES
from mitoscope.scoring.predictions import call_atypical
from mitoscope.training.bases.weights import describe_base, find_weights, read_base_weights
from mitoscope.training.classify.out_of_fold import OutOfFold
from mitoscope.training.data.table import CropData
from mitoscope.training.presets import fill_defaults
from mitoscope.training.study.study import Study

LICENCES = {"AMi-Br": "MIT (DeepMicroscopy/AMi-Br)"}


def describe_bundle(study: Study[CropData], predictions: OutOfFold, rule: str, name: str, folder: Path) -> Bundle:
    """The manifest of a study's bundle; nothing is written.

    Calibration and threshold are fitted on the out-of-fold predictions, the threshold on the calibrated scale.

    Args:
        study: A finished study.
        predictions: Its out-of-fold predictions.
        rule: One of `mitoscope.scoring.metrics.thresholds.THRESHOLD_RULES`.
        name: The bundle's name, after the architecture's.
        folder: Where the bundle is to be written.

    Raises:
        DataError: The rule cannot be fitted on these predictions.
    """
    calibration = _fit_calibration(predictions)
    p_atypical = calibrate(predictions.p_atypical, calibration)
    threshold = THRESHOLD_RULES[rule](predictions.is_atypical, p_atypical)
    config = study.record["config"]
    trained = study.data.rows_of(study.folds.train_ids(*study.members))
    sources = study.data.table["source"].iloc[trained].value_counts()
    architecture = config["architecture"].partition(".")[0]  # the tag names pre-trained weights
    return Bundle(
        folder=folder,
        name=f"{architecture.replace('_', '-')}-{name}",
        architecture=architecture,
        input=InputSpec(**config["input"]),
        classes=study.data.classes,
        calibration=calibration,
        threshold=Threshold(threshold, rule, "nothing" if rule == "one_half" else "out-of-fold", len(predictions)),
        members=tuple(
            _describe_member(predictions, p_atypical, fold, threshold, fill_defaults(config)["orientations"])
            for fold in study.members
        ),
        training={
            "commit": ", ".join(study.record["commits"]),
            "config": config,
            "fold_seconds": study.record["fold_seconds"],
            "folds_sha256": study.folds.sha256,
            "folds_seed": study.folds.seed,
            "data": [
                {"name": name, "crops": int(count), "licence": LICENCES.get(str(name), "see its publisher")}
                for name, count in sources.items()
            ],
        },
    )


def _fit_calibration(predictions: OutOfFold) -> Calibration | None:
    """Platt's; None, with a warning, for networks that are no better than chance."""
    try:
        return fit_platt(predictions.is_atypical, predictions.p_atypical)
    except DataError as error:
        print(f"warning   the bundle is not calibrated: {error}", flush=True)
        return None


def _describe_member(
    predictions: OutOfFold, p_atypical: np.ndarray, fold: int, threshold: float, orientations: int
) -> Member:
    """One member with its out-of-fold metrics, calibrated; `write_bundle` computes the hash."""
    own = predictions.fold == fold
    scores = compute_metrics(predictions.is_atypical[own], p_atypical[own], call_atypical(p_atypical[own], threshold))
    metrics = {key: scores[key] for key in ("balanced_accuracy", "roc_auc")}
    seen = choose_orientations(fold, orientations)
    return Member(f"fold{fold}.safetensors", "", fold=fold, metrics=metrics, orientations=seen)


@dataclass(frozen=True)
class StudyBase:
    """The base of a study's adapters.

    Attributes:
        base: As a manifest names it.
        path: Its file.
        name: Its architecture.
    """

    base: Base
    path: Path
    name: str

    @classmethod
    def find(cls, name: str, given: Path | None) -> "StudyBase":
        """Find a network's weights, see `mitoscope.training.bases.weights.find_weights`, and describe them."""
        path = find_weights(name, given)
        return cls(describe_base(name, path), path, name)

    def read(self) -> dict[str, Tensor]:
        """Its tensors, by timm's names."""
        return read_base_weights(self.name, self.path)


def find_base(study: Study[CropData], given: Path | None = None) -> StudyBase | None:
    """The base that a study's members were trained on.

    Args:
        study: A finished study.
        given: Its file or folder; None: where the study's record names it.

    Returns:
        None if the members are whole networks.

    Raises:
        WeightsError: It is not there.
        DataError: A member was trained on another base.
    """
    config = fill_defaults(study.record["config"])
    if config["method"] == "full":
        return None
    name, init = config["architecture"], study.record.get("init")
    found = StudyBase.find(name, given or (Path(init) if init else None))
    for fold in study.members:
        file = study.folder / f"fold{fold}" / "member.safetensors"
        with safetensors.safe_open(file, "pt") as tensors:
            trained = (tensors.metadata() or {}).get("base_sha256")
        if trained != found.base.sha256:
            raise DataError(
                f"{file} is an adapter of another base",
                got=f"{found.path} with sha256 {found.base.sha256}",
                expected=f"sha256 {trained}",
                remedy="name with --base the file that the study was run with",
            )
    return found


def with_base(studies: Mapping[str, Study[Any]], given: Path | None) -> dict[str, Study[Any]]:
    """The studies with another place where the base of adapters is looked for; whole networks stay as they are.

    Raises:
        DataError: No study is of adapters.
    """
    if given is None:
        return dict(studies)
    adapted = [
        name
        for name, study in studies.items()
        if fill_defaults(study.record["config"]).get("method", "full") != "full"  # detectors have no method
    ]
    if not adapted:
        raise DataError(
            "--base is for a study of adapters", got="whole networks", expected="none", remedy="remove the option"
        )
    return {
        name: replace(study, record={**study.record, "init": str(given)}) if name in adapted else study
        for name, study in studies.items()
    }


def read_states(study: Study[CropData]) -> list[dict[str, Tensor]]:
    """Each member's tensors, fp32, as `mitoscope.training.fit` wrote them."""
    return [safetensors.torch.load_file(study.folder / f"fold{k}" / "member.safetensors") for k in study.members]


def load_classifier(study: Study[CropData], bundle: Bundle) -> Classifier:
    """The study's members in fp32, on the GPU when there is one, without a bundle on disk."""
    base = find_base(study)
    return Classifier.of(
        bundle, iter(read_states(study)), choose_device("auto"), "fp32", None if base is None else base.read()
    )
