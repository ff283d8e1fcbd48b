"""The foundation models by name: how timm builds each, what it sees, what its embedding is, and its licence.

The facts are those of the publishers' model cards on the Hugging Face hub. No torch here.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mitoscope.bundle.inputs import IMAGENET_MEAN, IMAGENET_STD, InputSpec

# Licences by which a file may be passed on unchanged, by anybody and for any purpose.
FREE_LICENCES = ("apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "cc0-1.0", "cc-by-4.0")
UNKNOWN_LICENCE = "unknown"
DINOV3 = re.compile(r"vit_\w+_dinov3(_qkvb)?(\..+)?")


@dataclass(frozen=True)
class Foundation:
    """A vision transformer that others have trained on many images.

    Attributes:
        hub: Where its weights are, on the Hugging Face hub.
        architecture: timm's name.
        n_parameters: Of the network without a classifier.
        dimension: Length of its embedding.
        licence: SPDX name in lower case, or the publisher's name for it.
        arguments: For timm's builder, beside the architecture; ``mlp_layer`` names a class of `timm.layers`.
        patch_mean: Whether the embedding is the class token and, after it, the mean of the patch tokens. Otherwise it
            is the class token. Register tokens are part of neither.
        mean: See `InputSpec`.
        std: See `InputSpec`.
        crop_px: Side of the central square of a crop of 128 px that it sees.
        size_px: Side of its input.
    """

    hub: str
    architecture: str
    n_parameters: int
    dimension: int
    licence: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    patch_mean: bool = False
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    crop_px: int = InputSpec.crop_px
    size_px: int = 224

    @property
    def input(self) -> InputSpec:
        """How crops become its input."""
        return InputSpec(self.crop_px, self.size_px, mean=self.mean, std=self.std)


def may_be_passed_on(licence: str) -> bool:
    """Whether a licence lets anybody pass the weights on; an unknown one does not."""
    return licence.lower() in FREE_LICENCES


def is_dinov3(architecture: str) -> bool:
    """Whether this is timm's name of a DINOv3 ViT. Its embedding is the class token; timm's default is a mean."""
    return DINOV3.fullmatch(architecture) is not None


_SWIGLU = {"mlp_layer": "SwiGLUPacked", "act_layer": "silu", "init_values": 1e-5}
_VIRCHOW = {**_SWIGLU, "mlp_ratio": 5.3375, "global_pool": ""}
_OPTIMUS = {"init_values": 1e-5, "dynamic_img_size": False, "global_pool": "token"}
_OPTIMUS_MEAN, _OPTIMUS_STD = (0.707223, 0.578729, 0.703617), (0.211883, 0.230117, 0.177517)
_UNI2 = {
    **_SWIGLU,
    "patch_size": 14,
    "depth": 24,
    "num_heads": 24,
    "embed_dim": 1536,
    "mlp_ratio": 2.66667 * 2,
    "no_embed_class": True,
    "reg_tokens": 8,
    "dynamic_img_size": True,
}
_GIGAPATH = {
    "patch_size": 16,
    "embed_dim": 1536,
    "depth": 40,
    "num_heads": 24,
    "mlp_ratio": 5.33334,
    "init_values": 1e-5,
    "global_pool": "token",
}


def _dinov3(size: str, n_parameters: int, dimension: int) -> tuple[str, Foundation]:
    """A DINOv3 ViT by timm's name (Siméoni et al., 2025)."""
    name = f"vit_{size}_patch16_dinov3"
    return name, Foundation(f"timm/{name}.lvd1689m", name, n_parameters, dimension, "dinov3-license")


FOUNDATION: dict[str, Foundation] = {
    "virchow": Foundation(
        "paige-ai/Virchow", "vit_huge_patch14_224", 631_229_184, 2560, "apache-2.0",
        _VIRCHOW, patch_mean=True,
    ),
    "virchow2": Foundation(
        "paige-ai/Virchow2", "vit_huge_patch14_224", 631_239_424, 2560, "cc-by-nc-nd-4.0",
        {**_VIRCHOW, "reg_tokens": 4}, patch_mean=True,
    ),
    "uni": Foundation(
        "MahmoodLab/uni", "vit_large_patch16_224", 303_350_784, 1024, "cc-by-nc-nd-4.0",
        {"init_values": 1e-5, "dynamic_img_size": True},
    ),
    "uni2-h": Foundation(
        "MahmoodLab/UNI2-h", "vit_giant_patch14_224", 681_394_176, 1536, "cc-by-nc-nd-4.0", _UNI2,
    ),
    "h-optimus-0": Foundation(
        "bioptimus/H-optimus-0", "vit_giant_patch14_reg4_dinov2", 1_134_774_272, 1536, "apache-2.0",
        _OPTIMUS, mean=_OPTIMUS_MEAN, std=_OPTIMUS_STD,
    ),
    "h-optimus-1": Foundation(
        "bioptimus/H-optimus-1", "vit_giant_patch14_reg4_dinov2", 1_134_774_272, 1536, "cc-by-nc-nd-4.0",
        _OPTIMUS, mean=_OPTIMUS_MEAN, std=_OPTIMUS_STD,
    ),
    # Its publisher resizes to 256 px and cuts out 224: of a crop of 128 px that is the central 112.
    "prov-gigapath": Foundation(
        "prov-gigapath/prov-gigapath", "vit_giant_patch14_dinov2", 1_134_953_984, 1536, "prov-gigapath-research-only",
        _GIGAPATH, crop_px=112,
    ),
    **dict([
        _dinov3("small", 21_586_944, 384),
        _dinov3("small_plus", 28_683_264, 384),
        _dinov3("base", 85_641_216, 768),
        _dinov3("large", 303_079_424, 1024),
        _dinov3("huge_plus", 840_509_440, 1280),
        _dinov3("7b", 6_716_030_976, 4096),
    ]),
}  # fmt: skip
