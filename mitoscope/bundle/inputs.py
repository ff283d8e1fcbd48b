"""What a bundle's networks see: their input, and what the training crops looked like."""

from collections.abc import Mapping
from dataclasses import dataclass

from mitoscope.bundle.checks import is_number, unusable
from mitoscope.errors import WeightsError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class InputSpec:
    """How pixels become a network's input.

    Attributes:
        crop_px: Side of the central square of the crop that a classifier sees, in pixels of the crop (even).
        size_px: Side of the network's input, in pixels; of the largest tile, for a detector.
        interpolation: ``"bicubic"`` or ``"bilinear"``.
        mean: Mean per RGB channel that is subtracted, on the scale [0, 1].
        std: Standard deviation per RGB channel that is divided by, on the scale [0, 1].
        mpp: µm per pixel of the crop, or of the tile.
        density_mean: Of a detector: the optical density per RGB channel that the tissue of each image is brought to,
            see `mitoscope.images.density`; empty: images are taken as they are.
        density_std: Its standard deviation; empty: that of each image is kept.
    """

    crop_px: int = 128
    size_px: int = 256
    interpolation: str = "bicubic"
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    mpp: float = 0.25
    density_mean: tuple[float, ...] = ()
    density_std: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        numbers = (*self.mean, *self.std, self.mpp, *self.density_mean, *self.density_std)
        good = (
            isinstance(self.crop_px, int)
            and 2 <= self.crop_px <= 2048
            and self.crop_px % 2 == 0
            and isinstance(self.size_px, int)
            and 32 <= self.size_px <= 2048
            and self.interpolation in ("bicubic", "bilinear")
            and len(self.mean) == len(self.std) == 3
            and all(isinstance(value, int | float) for value in numbers)
            and all(0 < s < 10 for s in self.std)
            and all(-10 < m < 10 for m in self.mean)
            and 0.05 <= self.mpp <= 5
            and len(self.density_mean) in (0, 3)
            and len(self.density_std) in (0, len(self.density_mean))
            and all(0 < value < 5 for value in (*self.density_mean, *self.density_std))
        )
        if not good:
            raise WeightsError(
                "the network's input cannot be used",
                got=self,
                expected="crop_px even in 2…2048, size_px in 32…2048, bicubic or bilinear, 3 means, 3 positive stds, "
                "mpp in 0.05…5, 3 or no densities between 0 and 5, density_std only beside density_mean",
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
        usable = all(is_number(value) for value in values)
        if not (usable and self.std >= 0 and self.low <= self.high):
            raise unusable("the bundle's training crops", self, "numbers, std at least 0, low below high")


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
            raise unusable("the bundle's training crops", self, "n_crops above 0, and features by name")
