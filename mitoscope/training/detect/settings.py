"""The detector's own settings, and its presets."""

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from mitoscope.bundle.inputs import InputSpec
from mitoscope.detect.tiles import STEP_PX
from mitoscope.errors import DataError
from mitoscope.settings import check_ranges
from mitoscope.training.augment import AugmentConfig
from mitoscope.training.bases.pretrained import PACKAGED_MEAN, PACKAGED_STD
from mitoscope.training.folds import WHOLE
from mitoscope.training.settings import FitConfig


@dataclass(frozen=True)
class DetectSettings:
    """What only the detector has. The defaults are fixed, see `FitConfig`.

    With this task an epoch is ``patches_per_epoch`` patches, whatever the folds hold; ``architecture`` is what
    `mitoscope.networks.build.build_detector` takes; ``init`` is a whole detector.

    Attributes:
        input: What the network sees in training: ``crop_px`` and ``size_px`` are both the patch's side, a multiple of
            32; ``mpp`` is that of the prepared fields.
        tile_px: Largest side of the tiles in validation and of the published bundle, a multiple of 32 from 224 on; 0:
            the patch's.
        augment: Strengths of the augmentation.
        classes: Labels of the points that are to be found. Points of other labels are look-alikes.
        box_um: Side of the square around a point that is learned as its box.
        patches_per_epoch: How many are drawn.
        data_share: Share of the fields of each data set that patches are drawn from, in (0, 1]; the same seed keeps the
            fields of a smaller share in a larger one.
        hierarchical: Draw data set, then slide, then patch, each uniformly; otherwise any patch alike.
        figure_share: Of the patches drawn around a figure; the others lie around look-alikes and on tissue without.
        look_alike_share: Of those others, the ones around a look-alike, on slides that have both.
        mosaic: Share of the patches that are put together from the quadrants of four.
        more_ema_decays: Of further moving averages, which are kept beside that of ``ema_decay``.
        init_is_bgr: Whether the network of ``init`` sees blue, green, red, as mmdet's checkpoints do.
    """

    task: ClassVar[str] = "detect"

    input: InputSpec = field(default_factory=lambda: InputSpec(crop_px=640, size_px=640))
    tile_px: int = 0
    augment: AugmentConfig = field(
        default_factory=lambda: AugmentConfig(stretch=0.0, translate_px=0.0, quarter_turns=True)
    )
    classes: tuple[str, ...] = ("mitotic figure",)
    box_um: float = 12.5
    patches_per_epoch: int = 1000
    data_share: float = 1.0
    hierarchical: bool = True
    figure_share: float = 0.5
    look_alike_share: float = 0.5
    mosaic: float = 0.0
    more_ema_decays: tuple[float, ...] = ()
    init_is_bgr: bool = False

    def __post_init__(self) -> None:
        rules = {
            "input": self.input.crop_px == self.input.size_px and self.input.size_px % STEP_PX == 0,
            "tile_px": self.tile_px >= 0 and self.tile_px % STEP_PX == 0,
            "classes": 1 <= len(set(self.classes)) == len(self.classes),
            "box_um": self.box_um > 0,
            "patches_per_epoch": self.patches_per_epoch >= 2,
            "data_share": 0 < self.data_share <= 1,
            "figure_share": 0 < self.figure_share < 1,
            "look_alike_share": 0 <= self.look_alike_share <= 1,
            "mosaic": 0 <= self.mosaic <= 1,
            "more_ema_decays": all(0 <= decay < 1 for decay in self.more_ema_decays),
        }
        check_ranges(self, rules, "the setting", "--set ")

    @property
    def tile(self) -> InputSpec:
        """What the network sees once it is trained: the same, in larger tiles."""
        side_px = self.tile_px or self.input.size_px
        return replace(self.input, crop_px=side_px, size_px=side_px)

    @property
    def box_px(self) -> float:
        """Side of a box in pixels of the input."""
        return self.box_um / self.input.mpp


DetectConfig = FitConfig[DetectSettings]


def check_fold(fold: int, config: FitConfig[Any]) -> None:
    """Refuse a member that all folds train for another task, whose bundles hold the members of all folds.

    Raises:
        DataError: The preset is not a detector's.
    """
    if fold == WHOLE and config.part.task != DetectSettings.task:
        raise DataError(
            "this preset has no network of all folds",
            got=f"a preset to {config.part.task}",
            expected="one to detect",
            remedy="remove --whole, or name a fold from 0 to 4",
        )


AUGMENT = AugmentConfig(
    stain_scale=0.2, stain_shift=0.03, zoom=0.1, stretch=0.0, translate_px=0.0, quarter_turns=True, hue=0.03,
    saturation=0.2,
)  # fmt: skip
PRESETS: dict[str, DetectConfig] = {
    "detector-lite": FitConfig(
        DetectSettings(
            input=InputSpec(
                crop_px=256,
                size_px=256,
                mean=PACKAGED_MEAN,
                std=PACKAGED_STD,
                mpp=0.5,
                density_mean=(0.29, 0.90, 0.41),
                density_std=(0.21, 0.49, 0.22),
            ),
            tile_px=1344,
            augment=replace(AUGMENT, stain_scale=0.3, stain_shift=0.045),
            patches_per_epoch=800,
            more_ema_decays=(0.96, 0.98),  # the start of 1,200 steps holds slower ones at one value
        ),
        architecture="tf_efficientnet_lite0",
        pretrained=True,
        epochs=12,
        batch_size=8,
        learning_rate=1e-3,
        backbone_rate=0.3,
        clip_norm=10.0,
        validate_every=2,
        keep="best",
    ),
    # Lyu et al. 2022 and Marzahl et al. 2025 (arXiv 2508.19804): 25,000 steps of 24 patches, three averages.
    "rtmdet-s": FitConfig(
        DetectSettings(
            input=InputSpec(crop_px=1024, size_px=1024, mpp=0.25),
            augment=replace(AUGMENT, zoom=0.0),
            patches_per_epoch=12_000,
            more_ema_decays=(0.9995, 0.99975),
        ),
        architecture="rtmdet_s",
        epochs=50,
        batch_size=24,
        learning_rate=1e-3,
        warmup_steps=250,
        ema_decay=0.999,
        clip_norm=10.0,
        validate_every=1,
        keep="best",
        precision="16-mixed",
    ),
    "detector-smoke": FitConfig(
        DetectSettings(
            input=InputSpec(crop_px=96, size_px=96, mpp=0.5), tile_px=256, augment=AUGMENT, patches_per_epoch=16
        ),
        architecture="test_resnet",
        epochs=2,
        batch_size=8,
        warmup_steps=1,
        validate_every=1,
        keep="best",
    ),
}
# The challenge's organisers give torchvision's FCOS as a baseline: the same fields, sampler and steps.
PRESETS["fcos"] = replace(PRESETS["detector-lite"], architecture="fcos_tf_efficientnet_lite0")


def _ablations(base: DetectConfig) -> dict[str, DetectConfig]:
    """One change to a preset each; see `make detector-ablations`."""
    part = base.part

    def at(mpp: float) -> DetectConfig:
        """Pixels of another size, and as much tissue in a patch."""
        side_px = round(part.input.size_px * part.input.mpp / mpp)
        spec = replace(part.input, mpp=mpp, crop_px=side_px, size_px=side_px)
        return replace(base, part=replace(part, input=spec))

    return {
        "any-patch": replace(base, part=replace(part, hierarchical=False)),
        "no-look-alikes": replace(base, part=replace(part, look_alike_share=0.0)),
        "mosaic": replace(base, part=replace(part, mosaic=0.5)),
        "no-imagenet": replace(base, pretrained=False),
        "no-density": replace(base, part=replace(part, input=replace(part.input, density_mean=(), density_std=()))),
        "fine": at(0.25),
        "coarse": at(1.0),
    }


PRESETS |= {f"detector-lite-{name}": config for name, config in _ablations(PRESETS["detector-lite"]).items()}
