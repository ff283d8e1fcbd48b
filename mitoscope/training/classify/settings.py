"""The classifier's own settings, and its presets: the runs that are published."""

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from mitoscope.bundle.inputs import InputSpec
from mitoscope.networks.foundation import FOUNDATION
from mitoscope.settings import check_ranges
from mitoscope.training.augment import AugmentConfig
from mitoscope.training.settings import FitConfig

METHODS = ("full", "frozen", "lora")
QKV_PARTS = ("q", "k", "v")
# Which of a network's layers a name stands for. "proj" alone would also be the patch embedding's.
LORA_MODULES = {
    "qkv": r".*\.attn\.qkv",
    "proj": r".*\.attn\.proj",
    "fc1": r".*\.mlp\.fc1(_[gx])?",
    "fc2": r".*\.mlp\.fc2",
    **{part: rf".*\.attn\.qkv\.{part}" for part in QKV_PARTS},
    "conv_pw": r".*\.conv_pwl?",
}


@dataclass(frozen=True)
class LoraSettings:
    """Low-rank adaptation (Hu et al., ICLR 2022): W + alpha / rank × B A, with A and B trained and W frozen.

    Attributes:
        rank: Columns of B, 1 or more.
        alpha: The scale, before it is divided by the rank.
        dropout: Of the input of A, in training.
        modules: Which layers, separated by commas: ``qkv``, ``proj``, ``fc1`` and ``fc2`` of a transformer's blocks;
            ``q``, ``k`` and ``v`` alone instead of ``qkv``; ``conv_pw``, the 1 × 1 convolutions of EfficientNet.
    """

    rank: int = 8
    alpha: float = 8.0
    dropout: float = 0.0
    modules: str = "qkv"

    def __post_init__(self) -> None:
        names = self.modules.split(",")
        rules = {
            "rank": self.rank >= 1,
            "alpha": self.alpha > 0,
            "dropout": 0 <= self.dropout < 1,
            "modules": set(names) <= LORA_MODULES.keys()
            and len(set(names)) == len(names)
            and not ("qkv" in names and set(names) & set(QKV_PARTS)),
        }
        check_ranges(self, rules, "the setting", "--set lora.")


@dataclass(frozen=True)
class ClassifySettings:
    """What only the classifier has. The defaults are fixed, see `FitConfig`.

    Attributes:
        input: What the network sees.
        augment: Strengths of the augmentation.
        focal_gamma: Focal loss (Lin et al., ICCV 2017); 0 is cross-entropy.
        atypical_share: Of the crops drawn by the weighted sampler; 0 draws every crop once an epoch.
        vote_weight: 0 trains on the majority label, 1 on the share of experts who voted atypical.
        label_smoothing: Targets go from [0, 1] to [0.5 x, 1 - 0.5 x].
        mixup_alpha: Of the Beta distribution that mixes pairs of crops (Zhang et al., ICLR 2018), one draw a batch; 0
            mixes none.
        subclass_weight: Weight of the auxiliary loss on the two experts' eight sub-classes.
        drop_rate: Dropout before the classifier.
        orientations: In how many orientations a member sees a crop, see `mitoscope.classify.orientation`; 0: the crop
            as it comes.
        method: What is trained: ``"full"``, the whole network; ``"frozen"``, its last layer on a frozen backbone; or
            ``"lora"``, low-rank factors and the last layer. Of the last two only what is trained goes to the
            optimiser, the checkpoints and the member's file: an adapter.
        lora: Of the method ``"lora"``.
        last_blocks: Of the method ``"frozen"``: how many of the network's last blocks (of EfficientNet and EfficientViT
            stages) are trained too, with all that follows them. Their batch norms keep their statistics. 0: none.
        draws: Crops drawn in an epoch; 0: as many as the training folds hold.
    """

    task: ClassVar[str] = "classify"

    input: InputSpec = field(default_factory=lambda: InputSpec(crop_px=64, size_px=128))
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    focal_gamma: float = 0.0
    atypical_share: float = 0.5
    vote_weight: float = 0.5
    label_smoothing: float = 0.0
    mixup_alpha: float = 0.0
    subclass_weight: float = 0.5
    drop_rate: float = 0.2
    orientations: int = 0
    method: str = "full"
    lora: LoraSettings = field(default_factory=LoraSettings)
    last_blocks: int = 0
    draws: int = 0

    def __post_init__(self) -> None:
        rules = {
            "focal_gamma": self.focal_gamma == 0 or self.focal_gamma >= 1,  # between them the gradient has a pole
            "atypical_share": 0 <= self.atypical_share < 1,
            "vote_weight": 0 <= self.vote_weight <= 1,
            "label_smoothing": 0 <= self.label_smoothing < 1,
            "mixup_alpha": self.mixup_alpha >= 0,
            "subclass_weight": self.subclass_weight >= 0,
            "drop_rate": 0 <= self.drop_rate < 1,
            "orientations": 0 <= self.orientations <= 8,
            "method": self.method in METHODS,
            "last_blocks": self.last_blocks >= 0 and (not self.last_blocks or self.method == "frozen"),
            "draws": self.draws >= 0 and (not self.draws or self.atypical_share > 0),
        }
        check_ranges(self, rules, "the setting", "--set ")


ClassifyConfig = FitConfig[ClassifySettings]

BASES: dict[str, ClassifyConfig] = {
    "lite": FitConfig(
        ClassifySettings(
            input=InputSpec(crop_px=64, size_px=128, mean=(127 / 255,) * 3, std=(128 / 255,) * 3),
            augment=AugmentConfig(stain_scale=0.3, stain_shift=0.045),
            orientations=1,
        ),
        architecture="tf_efficientnet_lite0",
        pretrained=True,
        epochs=14,
        batch_size=32,
        learning_rate=6e-4,
        validate_every=2,
    ),
    "l2": FitConfig(
        ClassifySettings(
            input=InputSpec(crop_px=128, size_px=256), focal_gamma=2.0, vote_weight=0.0, subclass_weight=0.0
        ),
        architecture="efficientvit_l2.r256_in1k",
        pretrained=True,
        epochs=30,
        batch_size=64,
        learning_rate=1e-4,
        warmup_steps=300,
        ema_decay=0.998,
        validate_every=1,
        patience=8,
        keep="best",
        precision="16-mixed",
    ),
    "smoke": FitConfig(
        ClassifySettings(input=InputSpec(crop_px=64, size_px=64)),
        epochs=2,
        batch_size=8,
        warmup_steps=2,
        validate_every=1,
    ),
}


def _change(base: ClassifyConfig, **values: object) -> ClassifyConfig:
    """A preset with other settings of the classifier."""
    return replace(base, part=replace(base.part, **values))  # type: ignore[arg-type]  # any of the fields


def _ablations(base: ClassifyConfig) -> dict[str, ClassifyConfig]:
    """Presets that change one thing each, to measure what it contributes."""

    def stain(factor: float) -> ClassifyConfig:
        before = base.part.augment
        scale, shift = before.stain_scale * factor, before.stain_shift * factor
        return _change(base, augment=replace(before, stain_scale=scale, stain_shift=shift))

    gamma = base.part.focal_gamma
    return {
        "cross-entropy" if gamma else "focal": _change(base, focal_gamma=0.0 if gamma else 2.0),
        "no-stain": stain(0.0),
        "half-stain": stain(0.5),
        "double-stain": stain(2.0),
        "no-weighted-sampling": _change(base, atypical_share=0.0),
    }


# Changes that only one preset can have. L2 has 61 M parameters, its counterparts 49 M and 86 M, all three from
# ImageNet-1k.
_LITE, _L2 = BASES["lite"], BASES["l2"]
ABLATIONS: dict[str, dict[str, ClassifyConfig]] = {
    "lite": _ablations(_LITE)
    | {
        "no-imagenet": replace(_LITE, pretrained=False),
        "no-orientations": _change(_LITE, orientations=0),
        "no-votes": _change(_LITE, vote_weight=0.0),
        "no-subclasses": _change(_LITE, subclass_weight=0.0),
    },
    "l2": _ablations(_L2)
    | {
        "cnn": replace(_L2, architecture="convnext_small.fb_in1k"),
        "vit": replace(_L2, architecture="deit_base_patch16_224.fb_in1k"),
    },
}


def _adapt(name: str, rank: int, alpha: float, dropout: float, modules: str, **values: Any) -> ClassifyConfig:  # noqa: ANN401 - any of the fields
    """A foundation model with LoRA, as others have published it: plain labels, equally weighted classes.

    What a publication leaves open (epochs, warm-up, augmentation) is ours, see docs/foundation.md.
    """
    part = ClassifySettings(
        input=FOUNDATION[name].input,
        vote_weight=0.0,
        subclass_weight=0.0,
        drop_rate=0.0,
        method="lora",
        lora=LoraSettings(rank, alpha, dropout, modules),
        draws=values.pop("draws", 0),
    )
    common = {"epochs": 20, "batch_size": 16, "learning_rate": 1e-4, "validate_every": 1, "patience": 5, "keep": "best"}
    given = {**common, "weight_decay": 0.0, "precision": "16-mixed", **values}
    return FitConfig(part, architecture=name, pretrained=True, **given)


def _lite(**values: Any) -> ClassifyConfig:  # noqa: ANN401 - any of the fields
    """The preset lite, of which less is trained, and that faster."""
    return replace(BASES["lite"], part=replace(BASES["lite"].part, **values), learning_rate=1e-3)


_ALL = "qkv,proj,fc1,fc2"
LORA_PRESETS: dict[str, ClassifyConfig] = {
    "virchow-lora-r8": _adapt("virchow", 8, 16.0, 0.0, "qkv"),
    "benchmark-lora-r8": _adapt("virchow2", 8, 16.0, 0.3, _ALL, batch_size=8, learning_rate=5e-5),
    "lora-r16": _adapt("virchow2", 16, 16.0, 0.1, _ALL, epochs=100, patience=20, draws=1280),
    "dinov3-lora-r4": _adapt("vit_huge_plus_patch16_dinov3", 4, 8.0, 0.05, "q,v"),
    "partial-lite": _lite(method="frozen", last_blocks=2),
    "lora-r8-lite": _lite(method="lora", lora=LoraSettings(8, 16.0, modules="conv_pw")),
}
PRESETS: dict[str, ClassifyConfig] = (
    BASES
    | LORA_PRESETS
    | {f"{base}-{name}": config for base, changed in ABLATIONS.items() for name, config in changed.items()}
)
