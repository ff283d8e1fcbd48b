"""The network: the only call of timm.create_model in this project."""

from typing import Any

import timm
from torch import nn

from model.errors import WeightsError


def build_network(architecture: str, size_px: int, *, pretrained: bool = False) -> nn.Module:
    """Build a network with one output: the logit of *atypical*.

    Args:
        architecture: A timm model name, ``efficientvit_l2.r256_in1k`` or ``efficientvit_b0`` here.
            timm's ``efficientvit_b*/l*`` are MIT's EfficientViT (Cai et al., ICCV 2023, multi-scale linear
            attention), which the paper's figures describe; see docs/adr/0001.
        size_px: Side of its input. Only networks with position embeddings (plain ViT, Swin) are built for one size.
        pretrained: Ask timm for the ImageNet weights, from its model hub. Training only.

    Returns:
        A module float (N, 3, size_px, size_px) → float (N, 1).

    Raises:
        WeightsError: The architecture is unknown, or the pre-trained weights cannot be had.
    """
    if not timm.is_model(architecture):
        raise WeightsError(
            "the network cannot be built",
            got=f"architecture {architecture!r}",
            expected="a timm model name such as efficientvit_b0 or efficientvit_l2",
            remedy="restore manifest.json, or correct --set architecture=…",
        )
    known = timm.models.get_pretrained_cfg(architecture)
    size: dict[str, Any] = {"img_size": size_px} if known and known.fixed_input_size else {}
    try:
        return timm.create_model(architecture, pretrained=pretrained, num_classes=1, **size)
    except Exception as error:  # the hub's client raises whatever its transport raises
        if not pretrained:
            raise
        raise WeightsError(
            f"the pre-trained weights of {architecture} cannot be loaded",
            got=f"{type(error).__name__}: {error}",
            expected="a reachable model hub, or its cache in HF_HOME",
            remedy="connect to the network once, or train from scratch with --set pretrained=false",
        ) from error
