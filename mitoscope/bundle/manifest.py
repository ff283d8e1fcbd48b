"""The content of a bundle's manifest: frozen dataclasses that refuse unusable values.

No torch here, nor in `mitoscope.bundle.read`: the container checks and reads its bundle while torch is being imported.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mitoscope.bundle.checks import is_number, unusable
from mitoscope.bundle.inputs import InputSpec, TrainingCrops

TASKS = ("classify", "detect")
PRECISIONS = ("fp16", "bf16")
MEMBER_LIMIT = 100
LARGEST = 1e6  # of a calibration's numbers
LONGEST_NAME = 200  # characters of a name that the log shows
BUNDLE_NAME = re.compile(r"[\w.-]+")  # export.sh names a file by it
FILE_NAME = re.compile(r"[\w-][\w.-]*\.safetensors", re.ASCII)


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
            raise unusable("the decision threshold", self.value, "a float in (0, 1)")


@dataclass(frozen=True)
class Calibration:
    """Maps the members' mean probability to a frequency: sigmoid(scale × logit(p) + offset).

    Platt, "Probabilistic outputs for support vector machines", 1999. A scale above 0 keeps the order of the crops, and
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
        numbers = all(is_number(value) for value in (self.scale, self.offset, self.prevalence))
        if not (numbers and 0 < self.scale < LARGEST and abs(self.offset) < LARGEST and 0 < self.prevalence < 1):
            expected = f"a scale in (0, {LARGEST:g}), an offset within ±{LARGEST:g}, a prevalence in (0, 1)"
            raise unusable("the calibration", self, expected)


@dataclass(frozen=True)
class Rounding:
    """The effect of a coarser precision on a bundle's probabilities, measured against fp32 at publication.

    Attributes:
        n_crops: Number of crops in the measurement; of a detector, the points.
        largest_change: Largest change of a probability, in [0, 1].
        flipped: Share of the crops or points whose class changed, in [0, 1].
    """

    n_crops: int
    largest_change: float
    flipped: float

    def __post_init__(self) -> None:
        shares = (self.largest_change, self.flipped)
        if not (self.n_crops > 0 and all(is_number(share) and 0 <= share <= 1 for share in shares)):
            raise unusable("the rounding", self, "n_crops above 0, largest_change and flipped in [0, 1]")


@dataclass(frozen=True)
class Base:
    """The network that all adapters of a bundle share; stored, hashed and loaded once.

    Attributes:
        sha256: Hash of the file.
        licence: SPDX name, or the publisher's name for it.
        file: Name in the bundle's folder. None if the bundle does not hold it, by choice or because its licence
            forbids passing it on: the user gives it (``--base``).
        name: Its source, such as ``"paige-ai/Virchow"``.
    """

    sha256: str
    licence: str
    file: str | None = None
    name: str = ""

    def __post_init__(self) -> None:
        texts = (self.sha256, self.licence, self.name, self.file or "")
        if not (all(isinstance(text, str) for text in texts) and (self.file is None or FILE_NAME.fullmatch(self.file))):
            raise unusable("the base", self, "sha256 and licence, and a file NAME.safetensors or null")


@dataclass(frozen=True)
class Member:
    """One network of the ensemble.

    Attributes:
        file: Name in the bundle's folder.
        sha256: Hash of the file.
        kind: ``"full"``, or ``"adapter"``: the difference from the bundle's base.
        fold: The fold that validated it; None without one.
        metrics: By name, such as ``roc_auc`` out of fold.
        orientations: Those in which it sees a crop, 0 to 7, starting from the standard one; its probability is their
            mean (`mitoscope.classify.orientation`). Empty: the crop as it comes.
    """

    file: str
    sha256: str
    kind: str = "full"
    fold: int | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    orientations: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        good = (
            isinstance(self.file, str)
            and FILE_NAME.fullmatch(self.file)
            and isinstance(self.sha256, str)
            and self.kind in ("full", "adapter")
            and (self.fold is None or isinstance(self.fold, int))
            and isinstance(self.metrics, Mapping)
            and all(is_number(value) for value in self.metrics.values())
            and all(type(number) is int and 0 <= number < 8 for number in self.orientations)
            and len(set(self.orientations)) == len(self.orientations)
        )
        if not good:
            expected = (
                "file NAME.safetensors, sha256, kind full or adapter, fold, metrics, different orientations 0 to 7"
            )
            raise unusable("a member", self, expected)


@dataclass(frozen=True)
class Bundle:
    """A manifest and the folder it was read from.

    Attributes:
        folder: Holds the manifest, the members, and the base if it may be passed on.
        name: Letters, digits, and any of ``_.-``.
        architecture: timm's name; of a detector see `mitoscope.networks.build.build_detector`.
        input: How crops become the networks' input.
        threshold: The fixed decision threshold.
        members: At least one.
        task: ``"classify"`` or ``"detect"``.
        classes: The last one is the positive class.
        base: The network that the adapters change; None if all members are full.
        calibration: None if the probabilities are the networks' own.
        rounding: By precision (``"fp16"``, ``"bf16"``). ``auto`` never takes a precision that was not measured.
        training: Provenance: commit, settings, hash of the folds, data with licences.
        training_crops: None if they are not described; then unusual crops cannot be named.
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
            raise unusable("the bundle's names", texts, "short printable words")
        if not BUNDLE_NAME.fullmatch(self.name):
            raise unusable("the bundle's name", repr(self.name), "letters, digits, and any of _.-")
        if self.task not in TASKS or not 1 <= len(set(self.classes)) == len(self.classes):
            raise unusable("the bundle's task", (self.task, self.classes), f"one of {TASKS}, and different classes")
        if unknown := set(self.rounding) - set(PRECISIONS):
            raise unusable("the rounding", sorted(unknown), f"any of {PRECISIONS}")
        files = self.files
        if not (1 <= len(self.members) <= MEMBER_LIMIT and len(set(files)) == len(files)):
            raise unusable("the list of members", files[:9], f"1 to {MEMBER_LIMIT} members, different files")
        if any(member.kind == "adapter" for member in self.members) != (self.base is not None):
            raise unusable("the base", self.base, "one where there are adapters, else null")
        if len({bool(member.orientations) for member in self.members}) > 1:
            raise unusable("the members' orientations", [m.orientations for m in self.members], "some each, or none")
        if not isinstance(self.training, Mapping):
            raise unusable("the provenance", self.training, "an object")

    @property
    def files(self) -> tuple[str, ...]:
        """The safetensors files in the folder: the base, if the bundle holds it, then the members."""
        base = (self.base.file,) if self.base and self.base.file else ()
        return base + tuple(member.file for member in self.members)
