"""FCOS: a one-stage detector of boxes, in plain torch with torchvision's tensor names; what RTMDet is compared with.

Tian et al., *FCOS: Fully Convolutional One-Stage Object Detection*, 2019 (arXiv 1904.01355), as torchvision builds it.
The challenge's organisers give it as a baseline. The head looks at five grids with the same convolutions.
"""

import math
from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from mitoscope.networks.rtmdet import PRIOR, STRIDES

PREFIX = "fcos_"  # of an architecture's name, before that of its backbone
CHANNELS = 256
N_CONVS = 4  # of each branch of the head
GROUPS = 32  # of the head's norms


class FPN(nn.Module):
    """The neck: what the coarse grids see goes to the fine ones, and two coarser grids are added.

    Args:
        channels: Of the backbone's three grids, the finest first.
    """

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.inner_blocks = nn.ModuleList(nn.Sequential(nn.Conv2d(c, CHANNELS, 1)) for c in channels)
        self.layer_blocks = nn.ModuleList(nn.Sequential(nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1)) for _ in channels)
        self.extra_blocks = nn.ModuleDict(
            {name: nn.Conv2d(CHANNELS, CHANNELS, 3, stride=2, padding=1) for name in ("p6", "p7")}
        )
        for conv in self.modules():
            if isinstance(conv, nn.Conv2d):
                nn.init.kaiming_uniform_(conv.weight, a=1)
                nn.init.zeros_(conv.bias)  # type: ignore[arg-type]  # each has one

    def forward(self, grids: Sequence[Tensor]) -> list[Tensor]:
        inner = self.inner_blocks[-1](grids[-1])
        outs = [self.layer_blocks[-1](inner)]
        for k in range(len(grids) - 2, -1, -1):
            upper = F.interpolate(inner, size=grids[k].shape[-2:], mode="nearest")
            inner = self.inner_blocks[k](grids[k]) + upper
            outs.insert(0, self.layer_blocks[k](inner))
        sixth = self.extra_blocks["p6"](outs[-1])
        return [*outs, sixth, self.extra_blocks["p7"](F.relu(sixth))]


class ClassBranch(nn.Module):
    """One grid → the logits of the classes."""

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        self.conv = _make_tower()
        self.cls_logits = _start(nn.Conv2d(CHANNELS, n_classes, 3, padding=1), -math.log(1 / PRIOR - 1))

    def forward(self, grid: Tensor) -> Tensor:
        out: Tensor = self.cls_logits(self.conv(grid))
        return out


class BoxBranch(nn.Module):
    """One grid → distances in strides of the grid, and the logit of being near a figure's centre."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = _make_tower()
        self.bbox_reg = _start(nn.Conv2d(CHANNELS, 4, 3, padding=1))
        self.bbox_ctrness = _start(nn.Conv2d(CHANNELS, 1, 3, padding=1))

    def forward(self, grid: Tensor) -> tuple[Tensor, Tensor]:
        seen = self.conv(grid)
        return F.relu(self.bbox_reg(seen)), self.bbox_ctrness(seen)


def _make_tower() -> nn.Sequential:
    """Convolutions, each with a group norm and ReLU."""
    layers: list[nn.Module] = []
    for _ in range(N_CONVS):
        conv = _start(nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1))
        layers += [conv, nn.GroupNorm(GROUPS, CHANNELS), nn.ReLU()]
    return nn.Sequential(*layers)


def _start(conv: nn.Conv2d, bias: float = 0.0) -> nn.Conv2d:
    """A convolution as FCOS starts it."""
    nn.init.normal_(conv.weight, std=0.01)
    nn.init.constant_(conv.bias, bias)  # type: ignore[arg-type]  # each has one
    return conv


class FCOS(nn.Module):
    """float (N, 3, H, W), H and W multiples of 32 → logits, box distances and centre-ness on five grids.

    Args:
        backbone: As for `mitoscope.networks.rtmdet.RTMDet`.
        n_classes: Classes.

    Returns of `forward`:
        For each of the strides 8, 16, 32, 64 and 128: logits and distances as those of `RTMDet`, and the centre-ness'
        logits (N, 1, h, w). `mitoscope.networks.rtmdet.flatten_grids` makes one probability of both.
    """

    class_layers: ClassVar[str] = "head.classification_head.cls_logits."

    def __init__(self, backbone: nn.Module, n_classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        channels: list[int] = backbone.channels  # type: ignore[assignment]
        self.fpn = FPN(channels)
        branches = {"classification_head": ClassBranch(n_classes), "regression_head": BoxBranch()}
        self.head = nn.ModuleDict(branches)

    def forward(self, x: Tensor) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        logits, distances, centres = [], [], []
        for k, grid in enumerate(self.fpn(self.backbone(x))):
            logits.append(self.head["classification_head"](grid))
            placed, centre = self.head["regression_head"](grid)
            distances.append(placed * (STRIDES[0] << k))
            centres.append(centre)
        return logits, distances, centres
