"""Everything that shapes a training run, as frozen dataclasses; the presets are the runs that are published."""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from model.errors import DataError
from model.manifest import N_MEMBERS, InputSpec
from scoring.files import hash_file
from train.augment import AugmentConfig

# Settings that were added after fits were published, with the defaults that those had.
LATER: dict[str, Any] = {"init": "", "backbone_rate": 1.0, "label_smoothing": 0.0, "mixup_alpha": 0.0}


def check_ranges(config: object, rules: dict[str, bool], what: str, option: str) -> None:
    """Refuse the first setting of a dataclass that breaks its rule.

    Args:
        config: The settings.
        rules: Whether each is good, by name.
        what: What the user calls one of them.
        option: The command line's.

    Raises:
        DataError: One is not.
    """
    for name, good in rules.items():
        if not good:
            raise DataError(
                f"{what} {name} is out of range",
                got=getattr(config, name),
                expected=f"a value as {type(config).__name__} describes it",
                remedy=f"correct {option} {name}=…",
            )


@dataclass(frozen=True)
class FitConfig:
    """How one member is trained. The defaults are the ``lite`` preset, the bundle that the repository carries.

    Attributes:
        architecture: timm's name.
        pretrained: Start from ImageNet weights: those of `train.pretrained.PACKAGES`, else of timm's model hub.
        init: A .safetensors or .pth file to start the backbone from instead; "" for none.
        input: What the network sees.
        augment: Strengths of the augmentation.
        epochs: Passes over as many crops as the training folds hold.
        batch_size: Crops a step.
        learning_rate: AdamW's peak; reached after ``warmup_steps``, then a cosine down to 0.
        backbone_rate: Factor on the learning rate of all but the two heads.
        weight_decay: On matrices and kernels, not on biases and norms.
        focal_gamma: Focal loss (Lin et al., ICCV 2017); 0 is cross-entropy.
        atypical_share: Of the crops drawn by the weighted sampler; 0 draws every crop once an epoch.
        vote_weight: 0 trains on the majority label, 1 on the share of experts who voted atypical.
        label_smoothing: Targets go from [0, 1] to [0.5 x, 1 - 0.5 x].
        mixup_alpha: Of the Beta distribution that mixes pairs of crops (Zhang et al., ICLR 2018), one draw a batch;
            0 mixes none.
        subclass_weight: Weight of the auxiliary loss on the two experts' eight sub-classes.
        drop_rate: Dropout before the classifier.
        ema_decay: Of the moving average of the weights, which is what is validated and published.
        clip_norm: Largest norm of the gradient.
        validate_every: Epochs between two validations.
        patience: Validations without a better balanced accuracy after which the run stops; 0 goes on to the end.
        keep: ``"last"``, or ``"best"`` by balanced accuracy on the validation fold: which epoch's weights count.
            That and ``patience`` need a validation, so ``validate_every`` at most ``epochs``.
            The best flatters the out-of-fold figures a little, since that fold has chosen it.
        precision: Lightning's: "32-true", "16-mixed", "bf16-mixed".
        seed: Of weights, dropout, sampling and augmentation; the fold is added to it.
    """

    architecture: str = "efficientvit_b0"
    pretrained: bool = False
    init: str = ""
    input: InputSpec = field(default_factory=lambda: InputSpec(crop_px=64, size_px=128))
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    epochs: int = 40
    batch_size: int = 64
    learning_rate: float = 5e-4
    backbone_rate: float = 1.0
    weight_decay: float = 0.05
    warmup_steps: int = 100
    focal_gamma: float = 0.0
    atypical_share: float = 0.5
    vote_weight: float = 0.5
    label_smoothing: float = 0.0
    mixup_alpha: float = 0.0
    subclass_weight: float = 0.5
    drop_rate: float = 0.2
    ema_decay: float = 0.99
    clip_norm: float = 1.0
    validate_every: int = 5
    patience: int = 0
    keep: str = "last"
    precision: str = "32-true"
    seed: int = 0

    def __post_init__(self) -> None:
        rules = {
            "epochs": self.epochs >= 1,
            "batch_size": self.batch_size >= 2,
            "learning_rate": 0 < self.learning_rate < 1,
            "backbone_rate": 0 <= self.backbone_rate <= 1,
            "warmup_steps": self.warmup_steps >= 0,
            "focal_gamma": self.focal_gamma == 0 or self.focal_gamma >= 1,  # between them the gradient has a pole
            "atypical_share": 0 <= self.atypical_share < 1,
            "vote_weight": 0 <= self.vote_weight <= 1,
            "label_smoothing": 0 <= self.label_smoothing < 1,
            "mixup_alpha": self.mixup_alpha >= 0,
            "subclass_weight": self.subclass_weight >= 0,
            "weight_decay": self.weight_decay >= 0,
            "clip_norm": self.clip_norm > 0,
            "drop_rate": 0 <= self.drop_rate < 1,
            "ema_decay": 0 <= self.ema_decay < 1,
            "validate_every": self.validate_every >= 1,
            "patience": self.patience >= 0 and (not self.patience or self.validate_every <= self.epochs),
            "keep": self.keep == "last" or (self.keep == "best" and self.validate_every <= self.epochs),
            "seed": 0 <= self.seed < 2**32 - N_MEMBERS,
            "precision": self.precision in ("32-true", "16-mixed", "bf16-mixed"),
        }
        check_ranges(self, rules, "the setting", "--set")

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; ``init`` by its file's name and hash, so that another file is another fit.

        Raises:
            DataError: ``init`` names no file.
        """
        if not self.init:
            return asdict(self)
        if not Path(self.init).is_file():
            raise DataError(
                "the setting init names no file",
                got=self.init,
                expected="a .safetensors or .pth file",
                remedy="correct --set init=…",
            )
        path = Path(self.init)
        return {**asdict(self), "init": path.name, "init_sha256": hash_file(path)}

    @property
    def sha256(self) -> str:
        """A hash of every setting; a finished fold is skipped only under the same one."""
        return hash_settings(self.to_dict())


def hash_settings(settings: dict[str, Any]) -> str:
    """The hash of settings as `FitConfig.to_dict` gives them, and JSON keeps them.

    A setting of `LATER` counts only when it differs from its default: fits from before it stay finished.
    """
    known = {name: value for name, value in settings.items() if name not in LATER or value != LATER[name]}
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()


BASES = {
    "lite": FitConfig(),
    "lite0": FitConfig(
        architecture="tf_efficientnet_lite0",
        pretrained=True,
        input=InputSpec(crop_px=64, size_px=128, mean=(127 / 255,) * 3, std=(128 / 255,) * 3),
        epochs=14,
        batch_size=32,
        learning_rate=3e-4,
        validate_every=2,
    ),
    "l2": FitConfig(
        architecture="efficientvit_l2.r256_in1k",
        pretrained=True,
        input=InputSpec(crop_px=128, size_px=256),
        epochs=30,
        batch_size=64,
        learning_rate=1e-4,
        warmup_steps=300,
        focal_gamma=2.0,
        vote_weight=0.0,
        subclass_weight=0.0,
        ema_decay=0.998,
        validate_every=1,
        patience=8,
        keep="best",
        precision="16-mixed",
    ),
    "smoke": FitConfig(
        input=InputSpec(crop_px=64, size_px=64), epochs=2, batch_size=8, warmup_steps=2, validate_every=1
    ),
}


def _ablations(base: FitConfig, cnn: str, vit: str) -> dict[str, FitConfig]:
    """One change to a preset each: what is it worth?"""

    def stain(factor: float) -> FitConfig:
        scale, shift = base.augment.stain_scale * factor, base.augment.stain_shift * factor
        return replace(base, augment=replace(base.augment, stain_scale=scale, stain_shift=shift))

    return {
        "cross-entropy" if base.focal_gamma else "focal": replace(base, focal_gamma=0.0 if base.focal_gamma else 2.0),
        "no-stain": stain(0.0),
        "half-stain": stain(0.5),
        "double-stain": stain(2.0),
        "no-weighted-sampling": replace(base, atypical_share=0.0),
        "cnn": replace(base, architecture=cnn),
        "vit": replace(base, architecture=vit),
    }


# Of like size and start as far as timm has them: its smallest pure ViT has 5.5 M parameters, EfficientViT-B0 2.1 M;
# for L2's 61 M, 49 M and 86 M, both from ImageNet-1k as L2 itself. timm's EfficientNet kin (MobileNet too) start a head
# of one output with weights up to 1, thirty times too large, and hardly learn from scratch.
COUNTERPARTS = {
    "lite": ("regnetx_002", "vit_tiny_patch16_224"),
    "l2": ("convnext_small.fb_in1k", "deit_base_patch16_224.fb_in1k"),
}
PRESETS = BASES | {
    f"{base}-{name}": config
    for base, counterparts in COUNTERPARTS.items()
    for name, config in _ablations(BASES[base], *counterparts).items()
}


Config = TypeVar("Config")


def configure(preset: str, settings: Sequence[str]) -> FitConfig:
    """A preset with ``key=value`` changes.

    Raises:
        DataError: The preset, a key or a value is unknown.
    """
    if preset not in PRESETS:
        raise DataError(
            f"--preset {preset} is unknown", got=preset, expected=", ".join(PRESETS), remedy="correct the name"
        )
    return override(PRESETS[preset], settings)


def override(config: Config, settings: Sequence[str], option: str = "--set") -> Config:
    """Apply ``key=value`` settings, nested ones as ``augment.zoom=0.1``.

    Args:
        config: Any frozen dataclass.
        settings: The changes.
        option: The command line's, for the error.

    Raises:
        DataError: A key is unknown or a value is not of its type.
    """
    for setting in settings:
        path, _, text = setting.partition("=")
        config = _replace(config, path.split("."), text, f"{option} {setting}")
    return config


def _replace(config: Any, path: list[str], text: str, setting: str) -> Any:  # noqa: ANN401 - any of the dataclasses
    """A copy of a dataclass with one value, somewhere below, replaced."""
    names = [item.name for item in dataclasses.fields(config)]
    if path[0] not in names:
        raise DataError(
            f"{setting} names no setting", got=path[0], expected=", ".join(names), remedy="correct the name"
        )
    current = getattr(config, path[0])
    if len(path) > 1 and dataclasses.is_dataclass(current):
        return replace(config, **{path[0]: _replace(current, path[1:], text, setting)})
    try:
        value = text if isinstance(current, str) else json.loads(text)
        if isinstance(current, float) and type(value) is int:
            value = float(value)
        if isinstance(current, tuple):
            value = tuple(value)
        if len(path) > 1 or type(value) is not type(current):
            raise ValueError(text)
    except (ValueError, TypeError) as error:
        raise DataError(
            f"{setting} has no usable value",
            got=text,
            expected=f"a {type(current).__name__} such as {json.dumps(current, default=str)}",
            remedy="correct the value",
        ) from error
    return replace(config, **{path[0]: value})
