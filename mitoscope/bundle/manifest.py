"""What a bundle's manifest says: frozen dataclasses that refuse what cannot be used, and their JSON.

No torch here, nor in `mitoscope.bundle.read`: a broken bundle is refused, and its bytes are read, while torch is still
being imported.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mitoscope.errors import WeightsError

FORMAT = 2  # written; format 1 (five full members, atypical or normal) is still read
TASKS = ("classify", "detect")
PRECISIONS = ("fp16", "bf16")
MEMBER_LIMIT = 100
LONGEST_NAME = 200  # of the bundle, its architecture, its threshold's rule: the log shows them
RESTORE = "restore the bundle from where it was published, or name another with --weights"
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
FILE_NAME = re.compile(r"[\w-][\w.-]*\.safetensors", re.ASCII)


@dataclass(frozen=True)
class InputSpec:
    """How pixels become a network's input.

    Attributes:
        crop_px: Side of the central square of the crop that the network sees, in pixels of the crop (even).
        size_px: Side of the network's input, in pixels.
        interpolation: ``"bicubic"`` or ``"bilinear"``.
        mean: Mean per RGB channel that is subtracted, on the scale [0, 1].
        std: Standard deviation per RGB channel that is divided by, on the scale [0, 1].
        mpp: µm per pixel of the crop.
    """

    crop_px: int = 128
    size_px: int = 256
    interpolation: str = "bicubic"
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    mpp: float = 0.25

    def __post_init__(self) -> None:
        numbers = (*self.mean, *self.std, self.mpp)
        good = (
            isinstance(self.crop_px, int)
            and 2 <= self.crop_px <= 1024
            and self.crop_px % 2 == 0
            and isinstance(self.size_px, int)
            and 32 <= self.size_px <= 1024
            and self.interpolation in ("bicubic", "bilinear")
            and len(self.mean) == len(self.std) == 3
            and all(isinstance(value, int | float) for value in numbers)
            and all(0 < s < 10 for s in self.std)
            and all(-10 < m < 10 for m in self.mean)
            and 0.05 <= self.mpp <= 5
        )
        if not good:
            raise WeightsError(
                "the network's input is not described in a usable way",
                got=self,
                expected="crop_px even in 2…1024, size_px in 32…1024, bicubic or bilinear, 3 means, 3 positive stds, "
                "mpp in 0.05…5",
                remedy="restore manifest.json from where the bundle was published, or correct --set input.…",
            )


@dataclass(frozen=True)
class FeatureRange:
    """The distribution of one feature among the training crops.

    Attributes:
        mean: Its mean.
        std: Its standard deviation.
        low: Its 0.1 percentile.
        high: Its 99.9 percentile.
    """

    mean: float
    std: float
    low: float
    high: float

    def __post_init__(self) -> None:
        values = (self.mean, self.std, self.low, self.high)
        usable = all(_is_number(value) for value in values)
        if not (usable and self.std >= 0 and self.low <= self.high):
            raise _unusable("the bundle's training crops", self, "numbers, std of 0 or more, low below high")


@dataclass(frozen=True)
class TrainingCrops:
    """Stain and sharpness of the crops that a bundle was trained on.

    Attributes:
        n_crops: How many they are.
        features: By name; see `mitoscope.classify.outliers`.
    """

    n_crops: int
    features: Mapping[str, FeatureRange]

    def __post_init__(self) -> None:
        if not (isinstance(self.n_crops, int) and self.n_crops > 0 and self.features):
            raise _unusable("the bundle's training crops", self, "n_crops above 0, and features by name")


@dataclass(frozen=True)
class Threshold:
    """The fixed decision threshold: positive when the calibrated mean probability is at least ``value``.

    Attributes:
        value: In (0, 1).
        rule: What placed it, such as ``"max_balanced_accuracy"``.
        fitted_on: Such as ``"out-of-fold"``.
        n_crops: How many predictions that were.
    """

    value: float
    rule: str
    fitted_on: str
    n_crops: int

    def __post_init__(self) -> None:
        if not (isinstance(self.value, float) and 0 < self.value < 1):
            raise WeightsError(
                "the decision threshold is unusable", got=self.value, expected="a float in (0, 1)", remedy=RESTORE
            )


@dataclass(frozen=True)
class Calibration:
    """What turns the members' mean probability into a frequency: sigmoid(scale × logit(p) + offset).

    Platt, "Probabilistic outputs for support vector machines", 1999; a scale above 0 keeps the order of the crops, and
    so the ROC AUC.

    Attributes:
        method: Such as ``"platt"``.
        scale: Of the logit, above 0.
        offset: Added to it.
        fitted_on: Such as ``"out-of-fold"``.
        n_crops: How many predictions that were.
        prevalence: Share of positive crops among them, in (0, 1): what the frequencies hold for.
    """

    method: str
    scale: float
    offset: float
    fitted_on: str
    n_crops: int
    prevalence: float

    def __post_init__(self) -> None:
        numbers = all(_is_number(value) for value in (self.scale, self.offset, self.prevalence))
        if not (numbers and 0 < self.scale < 100 and abs(self.offset) < 100 and 0 < self.prevalence < 1):
            expected = "a scale in (0, 100), an offset in (-100, 100), a prevalence in (0, 1)"
            raise _unusable("the calibration", self, expected)


@dataclass(frozen=True)
class Rounding:
    """How far a coarser precision moves a bundle's probabilities, measured against fp32 when it was published.

    Attributes:
        n_crops: On how many crops.
        largest_change: Of a crop's probability, in [0, 1].
        flipped: Share of the crops whose class changed, in [0, 1].
    """

    n_crops: int
    largest_change: float
    flipped: float

    def __post_init__(self) -> None:
        shares = (self.largest_change, self.flipped)
        if not (self.n_crops > 0 and all(_is_number(share) and 0 <= share <= 1 for share in shares)):
            raise _unusable("the rounding", self, "n_crops above 0, largest_change and flipped in [0, 1]")


@dataclass(frozen=True)
class Base:
    """The network that all adapters of a bundle share; stored, hashed and loaded once.

    Attributes:
        sha256: Of the file.
        licence: SPDX name, or the publisher's.
        file: In the bundle's folder; None where the licence forbids passing it on: the user has it (``--base``).
        name: Where it comes from, such as ``"paige-ai/Virchow"``.
    """

    sha256: str
    licence: str
    file: str | None = None
    name: str = ""

    def __post_init__(self) -> None:
        named = self.file is None or (isinstance(self.file, str) and FILE_NAME.fullmatch(self.file))
        if not (
            named and isinstance(self.sha256, str) and isinstance(self.licence, str) and isinstance(self.name, str)
        ):
            raise _unusable("the base", self, "sha256 and licence, and a file NAME.safetensors or null")


@dataclass(frozen=True)
class Member:
    """One network of the ensemble.

    Attributes:
        file: In the bundle's folder.
        sha256: Of the file.
        kind: ``"full"``, or ``"adapter"``: what differs from the bundle's base.
        fold: The fold that validated it; None where there was none.
        metrics: Its own, such as ``roc_auc`` out of fold.
    """

    file: str
    sha256: str
    kind: str = "full"
    fold: int | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        good = (
            isinstance(self.file, str)
            and FILE_NAME.fullmatch(self.file)
            and isinstance(self.sha256, str)
            and self.kind in ("full", "adapter")
            and (self.fold is None or isinstance(self.fold, int))
            and isinstance(self.metrics, Mapping)
            and all(_is_number(value) for value in self.metrics.values())
        )
        if not good:
            raise _unusable("a member", self, "file NAME.safetensors, sha256, kind full or adapter, fold, metrics")


@dataclass(frozen=True)
class Bundle:
    """A manifest and the folder it was read from.

    Attributes:
        folder: Holds the manifest, the members, and the base if it may be passed on.
        name: The bundle's.
        architecture: timm's name, or one of `mitoscope.networks`.
        input: What the networks see.
        threshold: The fixed one.
        members: At least one.
        task: ``"classify"`` or ``"detect"``.
        classes: The last one is the positive one.
        base: Of the adapters; None where all members are full.
        calibration: None: the probabilities are the networks' own.
        rounding: By precision (``"fp16"``, ``"bf16"``). One that is missing was not measured: ``auto`` avoids it.
        training: Provenance: commit, settings, hash of the folds, data with licences.
        training_crops: None where they are not described: then no hint at unlike crops can be given.
    """

    folder: Path
    name: str
    architecture: str
    input: InputSpec
    threshold: Threshold
    members: tuple[Member, ...]
    task: str = "classify"
    classes: tuple[str, ...] = ("normal", "atypical")
    base: Base | None = None
    calibration: Calibration | None = None
    rounding: Mapping[str, Rounding] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    training_crops: TrainingCrops | None = None

    def __post_init__(self) -> None:
        texts = (self.name, self.architecture, self.threshold.rule, self.threshold.fitted_on, *self.classes)
        if not all(isinstance(text, str) and text.isprintable() and len(text) <= LONGEST_NAME for text in texts):
            raise _unusable("the bundle's names", texts, "short printable words")
        if not re.fullmatch(r"[\w.-]+", self.name):  # export.sh names a file by it
            raise _unusable("the bundle's name", repr(self.name), "letters, digits, and any of _.-")
        if self.task not in TASKS or not 1 <= len(set(self.classes)) == len(self.classes):
            raise _unusable("the bundle's task", (self.task, self.classes), f"one of {TASKS}, and different classes")
        if unknown := set(self.rounding) - set(PRECISIONS):
            raise _unusable("the rounding", sorted(unknown), f"any of {PRECISIONS}")
        files = [member.file for member in self.members]
        if not 1 <= len(set(files)) == len(files) <= MEMBER_LIMIT:
            raise _unusable("the list of members", files[:9], f"1 to {MEMBER_LIMIT} different files")
        if any(member.kind == "adapter" for member in self.members) != (self.base is not None):
            raise _unusable("the base", self.base, "one where there are adapters, else null")
        if not isinstance(self.training, Mapping):
            raise _unusable("the provenance", self.training, "an object")

    @property
    def files(self) -> tuple[str, ...]:
        """The safetensors files that the folder must hold: the base first, if it is there."""
        base = [self.base.file] if self.base and self.base.file else []
        return (*base, *(member.file for member in self.members))


def to_json(bundle: Bundle) -> dict[str, Any]:
    """The manifest as JSON values, without its checksum."""
    fields = {key: value for key, value in asdict(bundle).items() if key != "folder"}
    return {"format": FORMAT, **fields}


def from_json(manifest: Mapping[str, Any], folder: Path) -> Bundle:
    """The bundle that a manifest describes; its format is 1 or 2.

    Raises:
        WeightsError: A value cannot be used.
        KeyError, TypeError, AttributeError, OverflowError: A field is missing, unknown or of another type.
    """
    upgraded = _upgrade(manifest) if manifest["format"] == 1 else manifest
    fields = {key: value for key, value in upgraded.items() if key not in ("format", "checksum")}
    shape, crops = fields["input"], fields.get("training_crops")
    return Bundle(
        folder=folder,
        **{
            **fields,
            "input": InputSpec(**{**shape, "mean": tuple(shape["mean"]), "std": tuple(shape["std"])}),
            "threshold": Threshold(**fields["threshold"]),
            "members": tuple(Member(**member) for member in fields["members"]),
            "classes": tuple(fields["classes"]),
            "base": _optional(Base, fields.get("base")),
            "calibration": _optional(Calibration, fields.get("calibration")),
            "rounding": {name: Rounding(**values) for name, values in fields.get("rounding", {}).items()},
            "training_crops": None
            if crops is None
            else TrainingCrops(
                crops["n_crops"], {name: FeatureRange(**values) for name, values in crops["features"].items()}
            ),
        },
    )


def _upgrade(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """A manifest of format 1 in the words of format 2."""
    if manifest["positive_class"] != "atypical":
        raise _unusable("the positive class", manifest["positive_class"], "'atypical'")
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


def _optional(kind: Any, fields: Mapping[str, Any] | None) -> Any:  # noqa: ANN401 - any of the dataclasses
    """A dataclass from its fields, or None."""
    return None if fields is None else kind(**fields)


def _is_number(value: object) -> bool:
    """Whether a JSON value is a finite number."""
    return isinstance(value, int | float) and math.isfinite(value)


def _unusable(what: str, got: object, expected: str) -> WeightsError:
    """The error for a manifest that cannot be used."""
    return WeightsError(f"{what} cannot be used", got=got, expected=expected, remedy=RESTORE)
