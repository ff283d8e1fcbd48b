"""The members of a study of detectors: their sets of weights, their manifest, and detectors that run them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import safetensors.torch
from torch import Tensor

from mitoscope.bundle.inputs import InputSpec
from mitoscope.bundle.manifest import Bundle, Member, Threshold
from mitoscope.detect.detector import FLOOR, Detector
from mitoscope.errors import DataError
from mitoscope.networks.device import choose_device
from mitoscope.training.classify.members import LICENCES as CROP_LICENCES
from mitoscope.training.data.fields import FieldData
from mitoscope.training.data.samples import TRAIN_ONLY
from mitoscope.training.detect.results.regions import Found, Update, find_points, join_found
from mitoscope.training.folds import WHOLE
from mitoscope.training.presets import fill_defaults
from mitoscope.training.study.study import Study, name_fit

DetectStudy = Study[FieldData]

MEMBER = "member"  # the weights that validation chose an epoch by
RAW = "raw"
AVERAGES, TTA = "averages", "tta"  # of a fold: all its moving averages as an ensemble; MEMBER in eight orientations
SHEETS = "sheets of "  # before the names of data sets of crops, see `mitoscope.training.data.field_sources.sheets`
LICENCES = {
    **CROP_LICENCES,
    "MITOS14": "no licence stated; research use (MITOS-ATYPIA-14 contest)",
    "ICPR12": "no licence stated; research use (ICPR 2012 mitosis contest)",
    "MIDOG++": "CC-BY-4.0 (MIDOG++)",
}


def list_states(study: DetectStudy) -> list[str]:
    """The sets of weights that every member of a study left: `MEMBER`, raw, and further moving averages."""
    kept = [{path.stem for path in (study.folder / f"fold{k}").glob("*.safetensors")} for k in study.members]
    return [MEMBER, *sorted(set.intersection(*kept) - {MEMBER})]


def list_trials(study: DetectStudy, *, tta: bool) -> list[str]:
    """What an evaluation compares: `list_states`, `AVERAGES` if there are several, and `TTA` if it is asked for."""
    states = list_states(study)
    several = len(set(states) - {RAW}) > 1
    return [*states, *([AVERAGES] if several else []), *([TTA] if tta else [])]


def count_fields(study: DetectStudy) -> int:
    """How many fields the networks of the folds are not trained on, together."""
    return sum(len(study.folds.folds[fold]) for fold in study.members)


def check_state(study: DetectStudy, state: str) -> None:
    """Refuse a set of weights that the study does not have.

    Raises:
        DataError: Names those that it has.
    """
    if state not in list_states(study):
        raise DataError(
            f"{study.folder} has no weights {state}",
            got=state,
            expected=", ".join(list_states(study)),
            remedy="correct --state",
        )


def read_state(study: DetectStudy, fold: int, state: str = MEMBER) -> dict[str, Tensor]:
    """A member's tensors, fp32, as `mitoscope.training.fit` wrote them."""
    return safetensors.torch.load_file(study.folder / name_fit(fold) / f"{state}.safetensors")


def describe_bundle(study: DetectStudy, folds: Sequence[int], folder: Path, state: str = MEMBER) -> Bundle:
    """The manifest of a study's bundle, with a threshold of one half; nothing is written.

    Args:
        study: A finished study.
        folds: Whose members the bundle holds; `mitoscope.training.folds.WHOLE` is the one that all folds trained.
        folder: Where the bundle is to be written; the last part of its name.
        state: Which of the members' weights.
    """
    config = fill_defaults(study.record["config"])
    trained = study.folds.train_ids(*folds)
    used = study.data.table[study.data.table["image_id"].isin(trained)]
    points = study.data.points[study.data.points["image_id"].isin(trained)].merge(used[["image_id", "source"]])
    side_px = config["tile_px"] or config["input"]["size_px"]
    architecture = config["architecture"].partition(".")[0]  # the tag names pre-trained weights
    return Bundle(
        folder=folder,
        name=f"{architecture.replace('_', '-')}-{folder.name}",
        architecture=architecture,
        input=replace(InputSpec(**config["input"]), crop_px=side_px, size_px=side_px),
        threshold=Threshold(0.5, "fixed", "nothing", 0),
        members=tuple(
            Member(f"{name_fit(fold)}.safetensors", "", fold=None if fold == WHOLE else fold) for fold in folds
        ),
        task="detect",
        classes=tuple(config["classes"]),
        training={
            "commit": ", ".join(study.record["commits"]),
            "preset": study.record["preset"],
            "config": config,
            "state": state,
            "fold_seconds": study.record["fold_seconds"],
            "folds_sha256": study.folds.sha256,
            "study_members": len(study.members),
            "slides": int(used.loc[used["part"] != TRAIN_ONLY, "case"].nunique()),  # two data sets may share one
            "data": [
                {
                    "name": str(name),
                    "fields": len(part),
                    "cases": int(part["case"].nunique()),
                    "points": {
                        str(label): int(count)
                        for label, count in points.loc[points["source"] == name, "label"].value_counts().items()
                    },
                    "train_only": bool((part["part"] == TRAIN_ONLY).all()),
                    "licence": name_licence(str(name)),
                }
                for name, part in used.groupby("source", sort=False)
            ],
        },
    )


def name_licence(source: str) -> str:
    """The licence of a data set, or of those that sheets were made of."""
    names = source.removeprefix(SHEETS).split(" and ") if source.startswith(SHEETS) else [source]
    return "; ".join(dict.fromkeys(LICENCES.get(name, "see its publisher") for name in names))


def load_detector(bundle: Bundle, states: Sequence[Mapping[str, Tensor]], *, tta: bool = False) -> Detector:
    """A detector of tensors in memory, in fp32, on the GPU when there is one; see `Detector.restore`."""
    return Detector.restore(bundle, states, choose_device("auto"), "fp32", tta=tta)


def predict_out_of_fold(
    study: DetectStudy, folds: Sequence[int], state: str, update: Update = lambda n_done: None, floor: float = FLOOR
) -> Found:
    """What the network of each fold finds in the fields that it was not trained on, by the code of inference.

    Args:
        study: A finished study.
        folds: Which of its folds.
        state: One of `list_trials`.
        update: Called with 1 after each field.
        floor: The least probability of a point.
    """
    several = [name for name in list_states(study) if name != RAW]
    names = several if state == AVERAGES else [MEMBER if state == TTA else state]
    parts = []
    for fold in folds:
        bundle = describe_bundle(study, [fold], study.folder, names[0])
        members = tuple(Member(f"{name}.safetensors", "", fold=fold) for name in names)
        rows = study.data.rows_of(list(study.folds.folds[fold]))
        detector = load_detector(
            replace(bundle, members=members), [read_state(study, fold, name) for name in names], tta=state == TTA
        )
        parts.append(find_points(detector, study.data, rows, fold, update, floor))
    return join_found(parts)
