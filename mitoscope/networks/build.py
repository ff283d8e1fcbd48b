"""Build networks: by timm for training (the only call of timm.create_model here), and from a member for inference."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mitoscope.bundle.checks import RESTORE
from mitoscope.errors import WeightsError, describe_memory_error
from mitoscope.networks import efficientnet, efficientvit, fcos
from mitoscope.networks.foundation import FOUNDATION, Foundation, is_dinov3
from mitoscope.networks.layers import Runtime, empty_weights
from mitoscope.networks.rtmdet import NARROW, SIZES, STRIDES, RTMDet, merge_norms

DetectorNetwork = RTMDet | fcos.FCOS
BACKBONE = "backbone."
BESIDE = ("mask_token",)  # what published files hold beside a network: DINOv2's, for its training alone
RUNTIMES = (efficientvit.find_runtime, efficientnet.find_runtime)  # families that inference runs without timm


def find_runtime(architecture: str) -> Runtime | None:
    """How inference runs a timm model without timm; None if timm runs it."""
    return next(filter(None, (find(architecture) for find in RUNTIMES)), None)


def build_network(architecture: str, size_px: int, *, pretrained: bool = False) -> nn.Module:
    """Build a network with one output: the logit of the positive class.

    Args:
        architecture: A timm model name, ``efficientvit_l2.r256_in1k`` or ``efficientvit_b0`` here; or a foundation
            model of `mitoscope.networks.foundation.FOUNDATION`, such as ``virchow``.
            timm's ``efficientvit_b*/l*`` are MIT's EfficientViT (Cai et al., ICCV 2023, multi-scale linear
            attention), which the paper's figures describe; see docs/adr/0001.
        size_px: Side of its input. Only networks with position embeddings (plain ViT, Swin) are built for one size.
        pretrained: Ask timm for the ImageNet weights, from its model hub. Training only.

    Returns:
        A module float (N, 3, size_px, size_px) → float (N, 1). `embed` gives what enters its last layer.

    Raises:
        WeightsError: The architecture is unknown, or the pre-trained weights cannot be loaded. Those of
            a foundation model are loaded by `mitoscope.training.bases.weights`, so that their hash is known.
    """
    if architecture in FOUNDATION:
        return _build_foundation(FOUNDATION[architecture], size_px)
    pool = {"global_pool": "token"} if is_dinov3(architecture) else {}
    return _create(architecture, pretrained, num_classes=1, **_fixed_size(architecture, size_px), **pool)


def embed(network: nn.Module, images: Tensor) -> Tensor:
    """The embeddings of images: float (N, 3, size_px, size_px) → float (N, D), what enters the network's last layer.

    Args:
        network: As `build_network` gives it, from timm.
        images: Normalised, see `mitoscope.classify.preprocess.preprocess`.
    """
    embeddings: Tensor = network.forward_head(network.forward_features(images), pre_logits=True)  # type: ignore[operator]
    return embeddings


def name_head(network: nn.Module) -> str:
    """The name of a network's last layer, as `build_network` gives it, from timm."""
    head = network.get_classifier()  # type: ignore[operator]  # every timm network has it
    return next(str(name) for name, module in network.named_modules() if module is head)


def _build_foundation(known: Foundation, size_px: int) -> nn.Module:
    """A foundation model with random weights and one output."""
    import timm

    arguments = {**known.arguments, **_fixed_size(known.architecture, size_px)}
    if "mlp_layer" in arguments:
        arguments["mlp_layer"] = getattr(timm.layers, arguments["mlp_layer"])
    if is_dinov3(known.architecture):
        arguments["global_pool"] = "token"
    network = _create(known.architecture, False, num_classes=1, **arguments)
    if known.patch_mean:
        n_prefix: Any = network.num_prefix_tokens
        setattr(network, "pool", partial(pool_class_and_mean, n_prefix=n_prefix))  # noqa: B010 - over timm's method
        network.head = nn.Linear(known.dimension, 1)
    return network


def pool_class_and_mean(tokens: Tensor, n_prefix: int) -> Tensor:
    """The class token, then the mean of the patch tokens: float (N, T, D) → float (N, 2 D).

    Args:
        tokens: The class token, registers, patches.
        n_prefix: Class token and registers together; registers are left out.
    """
    return torch.cat([tokens[:, 0], tokens[:, n_prefix:].mean(dim=1)], dim=1)


def build_detector(architecture: str, n_classes: int, *, pretrained: bool = False) -> DetectorNetwork:
    """Build a detector: RTMDet; its neck and head, a third narrower than RTMDet-tiny's, on another backbone; or FCOS.

    Args:
        architecture: One of `mitoscope.networks.rtmdet.SIZES`; else the timm name of a convolutional network, for
            FCOS with ``fcos_`` before it.
        n_classes: Classes.
        pretrained: Ask timm for the backbone's ImageNet weights, from its model hub. Training only.

    Returns:
        See `RTMDet` and `mitoscope.networks.fcos.FCOS`. The tensors have mmdet's or torchvision's names, those of
        another backbone timm's after ``backbone.``.

    Raises:
        WeightsError: The architecture is unknown or has no such grids, or the weights cannot be loaded.
    """
    if architecture in SIZES:
        return RTMDet(SIZES[architecture], n_classes)
    try:
        backbone = _create(name_backbone(architecture), pretrained, features_only=True, out_indices=(-3, -2, -1))
        info: Any = backbone.feature_info
        strides = tuple(info.reduction())
    except (RuntimeError, AttributeError, AssertionError) as error:  # timm's, for a network without grids
        strides = (str(error),)
    if strides != STRIDES:
        raise WeightsError(
            f"{architecture} cannot be a detector's backbone",
            got=f"grids at strides {strides}",
            expected=f"grids at strides {STRIDES}",
            remedy=f"choose another --set architecture=…, such as {', '.join(SIZES)} or tf_efficientnet_lite0",
        )
    backbone.channels = info.channels()
    return _assemble(architecture, backbone, n_classes)


def name_backbone(architecture: str) -> str:
    """timm's name of a detector's backbone."""
    return architecture.removeprefix(fcos.PREFIX)


def _assemble(architecture: str, backbone: nn.Module, n_classes: int) -> DetectorNetwork:
    """Neck and head on a backbone that is not RTMDet's own."""
    if architecture.startswith(fcos.PREFIX):
        return fcos.FCOS(backbone, n_classes)
    return RTMDet(NARROW, n_classes, backbone)


def _fixed_size(architecture: str, size_px: int) -> dict[str, Any]:
    """timm's argument for networks that are built for one size of the input."""
    import timm

    known = timm.models.get_pretrained_cfg(architecture)
    return {"img_size": size_px} if known and known.fixed_input_size else {}


def _create(architecture: str, pretrained: bool, **arguments: Any) -> nn.Module:  # noqa: ANN401 - timm's own
    """timm's network, or one of our errors."""
    import timm  # here: it takes longer to import than torch, and inference by EfficientViT does not need it

    if not timm.is_model(architecture):
        raise WeightsError(
            "the network cannot be built",
            got=f"architecture {architecture!r}",
            expected="a timm model name such as efficientvit_b0 or efficientvit_l2",
            remedy="restore manifest.json, or correct --set architecture=…",
        )
    try:
        network: nn.Module = timm.create_model(architecture, pretrained=pretrained, **arguments)
    except Exception as error:  # the hub's client raises whatever its transport raises
        if not pretrained:
            raise
        raise WeightsError(
            f"the pre-trained weights of {architecture} cannot be loaded",
            got=f"{type(error).__name__}: {error}",
            expected="a reachable model hub, or its cache in HF_HOME",
            remedy="connect to the network once, or train from scratch with --set pretrained=false",
        ) from error
    return network


def restore_network(architecture: str, size_px: int, state: Mapping[str, Tensor], name: str) -> nn.Module:
    """Build a network for inference from a member's tensors.

    Args:
        architecture: As for `build_network`.
        size_px: As for `build_network`.
        state: Tensors by timm's names; unchanged ones are used without a copy, in their own precision.
        name: The member's file, for the message.

    Returns:
        A module float (N, 3, size_px, size_px) → float (N, 1), on the CPU, in evaluation mode, in mixed precision.

    Raises:
        WeightsError: The tensors belong to another architecture.
    """
    runtime = find_runtime(architecture)
    with empty_weights():
        network = runtime.build() if runtime else build_network(architecture, size_px)
    tensors = _match(network, lambda: runtime.fold(state) if runtime else dict(state), architecture, name)
    network.load_state_dict(tensors, strict=True, assign=True)
    if any(buffer.is_meta for buffer in network.buffers()):  # computed, not stored, by Swin and others
        network = build_network(architecture, size_px)
        network.load_state_dict(tensors, strict=True, assign=True)
    return network.eval().requires_grad_(False)


def restore_detector(architecture: str, n_classes: int, state: Mapping[str, Tensor], name: str) -> nn.Module:
    """Build a detector for inference from a member's tensors.

    Args:
        architecture: As for `build_detector`.
        n_classes: Classes.
        state: Tensors by the names that `build_detector` gives them.
        name: The member's file, for the message.

    Returns:
        See `build_detector`; in fp32, on the CPU, in evaluation mode, with RTMDet's batch norms merged. A backbone of
        EfficientNet-Lite runs without timm.

    Raises:
        WeightsError: The architecture is unknown, or the tensors belong to another one.
    """
    runtime = efficientnet.find_backbone(name_backbone(architecture))
    with empty_weights():
        network = (
            _assemble(architecture, runtime.build(), n_classes) if runtime else build_detector(architecture, n_classes)
        )
    tensors = _match(network, lambda: _fold_backbone(runtime, state) if runtime else dict(state), architecture, name)
    wide = {key: tensor.float() if tensor.is_floating_point() else tensor for key, tensor in tensors.items()}
    network.load_state_dict(wide, strict=True, assign=True)
    return merge_norms(network.eval().requires_grad_(False))


def _fold_backbone(runtime: Runtime, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A detector's tensors with those of its backbone as inference needs them."""
    own = {key.removeprefix(BACKBONE): tensor for key, tensor in state.items() if key.startswith(BACKBONE)}
    others = {key: tensor for key, tensor in state.items() if not key.startswith(BACKBONE)}
    return others | {f"{BACKBONE}{key}": tensor for key, tensor in runtime.fold(own).items()}


def _match(
    network: nn.Module, convert: Callable[[], dict[str, Tensor]], architecture: str, name: str
) -> dict[str, Tensor]:
    """Convert a member's tensors, and refuse those of another network."""
    try:
        tensors = convert()
        problem = next(list_mismatches(network.state_dict(), tensors), None)
    except (KeyError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and describe_memory_error(error):
            raise
        tensors, problem = {}, f"a batch norm without a matching convolution: {error}"
    if problem:
        raise WeightsError(
            f"{name} is of another architecture",
            got=problem,
            expected=f"the tensors of {architecture}",
            remedy=RESTORE,
        )
    return tensors


def list_mismatches(expected: Mapping[str, Tensor], got: Mapping[str, Tensor]) -> Iterator[str]:
    """Describe every tensor that is missing, surplus, or of another shape or kind."""
    for name in sorted(expected.keys() | got.keys()):
        if name not in got:
            yield f"no tensor {name}"
        elif name not in expected:
            yield f"a surplus tensor {name}"
        elif got[name].shape != expected[name].shape:
            yield f"{name} of shape {tuple(got[name].shape)} instead of {tuple(expected[name].shape)}"
        elif got[name].is_floating_point() != expected[name].is_floating_point():
            yield f"{name} of type {got[name].dtype}"
