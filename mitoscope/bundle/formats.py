"""A manifest as JSON: format 2 is written; format 2 and format 1 (five full members, atypical or normal) are read."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mitoscope.bundle.checks import unusable
from mitoscope.bundle.inputs import FeatureRange, InputSpec, TrainingCrops
from mitoscope.bundle.manifest import Base, Bundle, Calibration, Member, Rounding, Threshold

FORMAT = 2  # written
FORMATS = (1, 2)  # read


def to_json(bundle: Bundle) -> dict[str, Any]:
    """Encode a bundle as the manifest's JSON values, without its checksum."""
    fields = {key: value for key, value in asdict(bundle).items() if key != "folder"}
    return {"format": FORMAT, **fields}


def from_json(manifest: Mapping[str, Any], folder: Path) -> Bundle:
    """Decode a manifest of format 1 or 2.

    Raises:
        WeightsError: A value is unusable.
        KeyError, TypeError, AttributeError, OverflowError: A field is missing, unknown or of another type.
    """
    upgraded = _upgrade(manifest) if manifest["format"] == 1 else manifest
    fields = {key: value for key, value in upgraded.items() if key not in ("format", "checksum")}
    shape: dict[str, Any] = {key: _as_tuple(value) for key, value in fields["input"].items()}
    crops = fields.get("training_crops")
    return Bundle(
        folder=folder,
        **{
            **fields,
            "input": InputSpec(**shape),
            "threshold": Threshold(**fields["threshold"]),
            "members": tuple(_member(**member) for member in fields["members"]),
            "classes": tuple(fields["classes"]),
            "base": _optional(Base, fields.get("base")),
            "calibration": _optional(Calibration, fields.get("calibration")),
            "rounding": {name: Rounding(**values) for name, values in fields.get("rounding", {}).items()},
            "training_crops": None if crops is None else _training_crops(**crops),
        },
    )


def _member(orientations: Sequence[int] = (), **fields: Any) -> Member:  # noqa: ANN401 - checked by Member
    """Decode a member."""
    return Member(**fields, orientations=tuple(orientations))


def _training_crops(n_crops: int, features: Mapping[str, Mapping[str, float]]) -> TrainingCrops:
    """Decode the description of the training crops."""
    return TrainingCrops(n_crops, {name: FeatureRange(**values) for name, values in features.items()})


def _upgrade(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Convert a manifest of format 1 to format 2."""
    if manifest["positive_class"] != "atypical":
        raise unusable("the positive class", manifest["positive_class"], "'atypical'")
    kept = ("name", "architecture", "input", "threshold", "training")
    return {
        **{key: manifest[key] for key in kept},
        "task": "classify",
        "classes": ["normal", "atypical"],
        "members": [
            {
                "file": member["file"],
                "sha256": member["sha256"],
                "fold": member["fold"],
                "metrics": {key: member[key] for key in ("balanced_accuracy", "roc_auc")},
            }
            for member in manifest["members"]
        ],
        "rounding": {"bf16": manifest["bf16"]} if manifest.get("bf16") else {},
        "training_crops": manifest.get("training_crops"),
    }


def _as_tuple(value: object) -> object:
    """A list of JSON as a tuple, which can be compared and hashed."""
    return tuple(value) if isinstance(value, list) else value


def _optional(kind: Any, fields: Mapping[str, Any] | None) -> Any:  # noqa: ANN401 - any of the dataclasses
    """Build a dataclass from its fields; None stays None."""
    return None if fields is None else kind(**fields)
