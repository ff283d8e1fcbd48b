"""What a bundle's manifest says: frozen dataclasses that refuse what cannot be used.

No torch here, nor in `model.bundle`: a bundle that is not whole is refused, and its bytes are read, while torch is
still being imported.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from model.contract import CROP_PX
from model.errors import WeightsError

N_MEMBERS = 5
RESTORE = "restore the bundle from where it was published, or name another with --weights"
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
FEATURES = (
    *("haematoxylin mean", "haematoxylin spread", "eosin mean", "eosin spread", "residual mean", "residual spread"),
    "sharpness",
)


@dataclass(frozen=True)
class InputSpec:
    """How a 128 × 128 px crop becomes a network's input; stored in the bundle's manifest.

    Attributes:
        crop_px: Side of the central square that the network sees, in pixels of the crop (even, 2 … 128).
        size_px: Side of the network's input, in pixels.
        interpolation: ``"bicubic"`` or ``"bilinear"``.
        mean: Mean per RGB channel that is subtracted, on the scale [0, 1].
        std: Standard deviation per RGB channel that is divided by, on the scale [0, 1].
    """

    crop_px: int = CROP_PX
    size_px: int = 256
    interpolation: str = "bicubic"
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    def __post_init__(self) -> None:
        good = (
            isinstance(self.crop_px, int)
            and 2 <= self.crop_px <= CROP_PX
            and self.crop_px % 2 == 0
            and isinstance(self.size_px, int)
            and 32 <= self.size_px <= 1024
            and self.interpolation in ("bicubic", "bilinear")
            and len(self.mean) == len(self.std) == 3
            and all(isinstance(value, int | float) for value in (*self.mean, *self.std))
            and all(0 < s < 10 for s in self.std)
            and all(-10 < m < 10 for m in self.mean)
        )
        if not good:
            raise WeightsError(
                "the network's input is not described in a usable way",
                got=self,
                expected="crop_px even in 2…128, size_px in 32…1024, bicubic or bilinear, 3 means, 3 positive stds",
                remedy="restore manifest.json from where the bundle was published, or correct --set input.…",
            )


@dataclass(frozen=True)
class FeatureRange:
    """What one feature is among the training crops.

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
        usable = all(isinstance(value, int | float) and math.isfinite(value) for value in values)
        if not (usable and self.std >= 0 and self.low <= self.high):
            raise _fault(str(self), "numbers, std of 0 or more, low below high")


@dataclass(frozen=True)
class TrainingCrops:
    """Stain and sharpness of the crops that a bundle was trained on; stored in its manifest.

    Attributes:
        n_crops: How many they are.
        features: By name, all of `FEATURES`, in the units of `measure_crops`.
    """

    n_crops: int
    features: Mapping[str, FeatureRange]

    def __post_init__(self) -> None:
        if set(self.features) != set(FEATURES):
            raise _fault(str(sorted(self.features)), ", ".join(FEATURES))


@dataclass(frozen=True)
class Threshold:
    """The fixed decision threshold: a crop is atypical when its mean probability is at least ``value``."""

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
class Member:
    """One cross-validation fold's network and its own out-of-fold figures."""

    fold: int
    file: str
    sha256: str
    balanced_accuracy: float
    roc_auc: float


@dataclass(frozen=True)
class Rounding:
    """What a coarser precision changed of a bundle's answers, measured against fp32 when it was published.

    Attributes:
        n_crops: On how many crops.
        largest_change: Of a crop's p_atypical, in [0, 1].
        flipped: Share of the crops whose class changed, in [0, 1].
    """

    n_crops: int
    largest_change: float
    flipped: float

    def __post_init__(self) -> None:
        shares = (self.largest_change, self.flipped)
        if not (self.n_crops > 0 and all(isinstance(share, int | float) and 0 <= share <= 1 for share in shares)):
            raise WeightsError(
                "what bf16 changes is not described in a usable way",
                got=self,
                expected="n_crops above 0, largest_change and flipped in [0, 1]",
                remedy=RESTORE,
            )


@dataclass(frozen=True)
class Bundle:
    """A verified manifest and the folder it was read from. The fields are the manifest's.

    ``training_crops`` is None where a manifest says nothing of them: older bundles do not, and nothing but the hint at
    crops that are unlike them needs it. ``bf16`` is None where it was not measured: then ``auto`` stays at fp32.
    """

    folder: Path
    name: str
    architecture: str
    input: InputSpec
    threshold: Threshold
    members: tuple[Member, ...]
    positive_class: str = "atypical"
    training: Mapping[str, Any] = field(default_factory=dict)
    training_crops: TrainingCrops | None = None
    bf16: Rounding | None = None


def _fault(got: str, expected: str) -> WeightsError:
    """The error for a manifest whose training crops cannot be used."""
    return WeightsError(
        "the bundle's training crops are not described in a usable way",
        got=got,
        expected=expected,
        remedy="restore manifest.json from where the bundle was published",
    )
