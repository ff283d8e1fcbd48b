"""RTMDet: a one-stage detector of boxes, in plain torch with mmdet's tensor names, so that its checkpoints load.

Lyu et al., *RTMDet: An Empirical Study of Designing Real-Time Object Detectors*, 2022 (arXiv 2212.07784). The network
of the challenge's third-best average precision is RTMDet-S. Every convolution is followed by a batch norm and SiLU.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from mitoscope.networks.layers import Conv

STRIDES = (8, 16, 32)  # of the three grids, in pixels of the input
N_CONVS = 2  # of each branch of the head
PRIOR = 0.01  # probability of a figure that the head starts from


@dataclass(frozen=True)
class Size:
    """What distinguishes one RTMDet from another.

    Attributes:
        width: Factor on all channels.
        depth: Factor on the number of blocks.
    """

    width: float
    depth: float


NARROW = Size(0.25, 0.167)  # of neck and head on another backbone
SIZES = {"rtmdet_tiny": Size(0.375, 0.167), "rtmdet_s": Size(0.5, 0.33), "rtmdet_m": Size(0.75, 0.67)}


class ConvBlock(nn.Module):
    """Convolution, batch norm, SiLU; the grid stays, but for the stride."""

    def __init__(self, c_in: int, c_out: int, side: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, side, stride, side // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(c_out)

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(self.bn(self.conv(x)))


class Separable(nn.Module):
    """A depthwise 5 × 5 and a pointwise convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise_conv = ConvBlock(channels, channels, 5, groups=channels)
        self.pointwise_conv = ConvBlock(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.pointwise_conv(self.depthwise_conv(x))
        return out


class Block(nn.Module):
    """3 × 3, then `Separable`; adds its input if `add` is set."""

    def __init__(self, channels: int, add: bool) -> None:
        super().__init__()
        self.conv1, self.conv2, self.add = ConvBlock(channels, channels, 3), Separable(channels), add

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv2(self.conv1(x))
        return out + x if self.add else out


class ChannelAttention(nn.Module):
    """Every channel is scaled by what the means of all channels say."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * F.hardsigmoid(self.fc(x.mean(dim=(2, 3), keepdim=True)))


class CSPLayer(nn.Module):
    """Half of the channels go through blocks, half past them."""

    def __init__(self, c_in: int, c_out: int, n_blocks: int, *, add: bool, attention: bool) -> None:
        super().__init__()
        half = c_out // 2
        self.main_conv, self.short_conv = ConvBlock(c_in, half, 1), ConvBlock(c_in, half, 1)
        self.blocks = nn.Sequential(*(Block(half, add) for _ in range(n_blocks)))
        if attention:
            self.attention = ChannelAttention(2 * half)
        self.final_conv = ConvBlock(2 * half, c_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        both = torch.cat([self.blocks(self.main_conv(x)), self.short_conv(x)], dim=1)
        if hasattr(self, "attention"):
            both = self.attention(both)
        out: Tensor = self.final_conv(both)
        return out


class SpatialPyramid(nn.Module):
    """Max pools of 5, 9 and 13 cells, side by side (mmdet's SPPBottleneck)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = ConvBlock(channels, channels // 2, 1), ConvBlock(channels * 2, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        pooled = [F.max_pool2d(x, side, stride=1, padding=side // 2) for side in (5, 9, 13)]
        out: Tensor = self.conv2(torch.cat([x, *pooled], dim=1))
        return out


class CSPNeXt(nn.Module):
    """The backbone: float (N, 3, H, W) → grids at strides 8, 16 and 32."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        widths = [int(channels * size.width) for channels in (64, 128, 256, 512, 1024)]
        self.channels = widths[2:]
        half = widths[0] // 2
        self.stem = nn.Sequential(ConvBlock(3, half, 3, 2), ConvBlock(half, half, 3), ConvBlock(half, widths[0], 3))
        for number, count in enumerate((3, 6, 6, 3), start=1):
            c_in, c_out, last = widths[number - 1], widths[number], number == 4
            layers: list[nn.Module] = [ConvBlock(c_in, c_out, 3, 2)]
            layers += [SpatialPyramid(c_out)] if last else []
            n_blocks = max(round(count * size.depth), 1)
            layers += [CSPLayer(c_out, c_out, n_blocks, add=not last, attention=True)]
            setattr(self, f"stage{number}", nn.Sequential(*layers))

    def forward(self, x: Tensor) -> list[Tensor]:
        x, grids = self.stem(x), []
        for number in range(1, 5):
            x = getattr(self, f"stage{number}")(x)
            grids.append(x)
        return grids[1:]


class PAFPN(nn.Module):
    """The neck: what the coarse grids see goes to the fine ones, and back (Liu et al., PANet, CVPR 2018)."""

    def __init__(self, channels: Sequence[int], c_out: int, n_blocks: int) -> None:
        super().__init__()
        fine, middle, coarse = channels

        def layer(c_in: int, c: int) -> CSPLayer:
            return CSPLayer(c_in, c, n_blocks, add=False, attention=False)

        self.reduce_layers = nn.ModuleList([ConvBlock(coarse, middle, 1), ConvBlock(middle, fine, 1)])
        self.top_down_blocks = nn.ModuleList([layer(2 * middle, middle), layer(2 * fine, fine)])
        self.downsamples = nn.ModuleList([ConvBlock(fine, fine, 3, 2), ConvBlock(middle, middle, 3, 2)])
        self.bottom_up_blocks = nn.ModuleList([layer(2 * fine, middle), layer(2 * middle, coarse)])
        self.out_convs = nn.ModuleList([ConvBlock(c, c_out, 3) for c in channels])

    def forward(self, grids: Sequence[Tensor]) -> list[Tensor]:
        inner = [grids[-1]]
        for k, lower in enumerate(reversed(grids[:-1])):
            inner[0] = self.reduce_layers[k](inner[0])
            upper = F.interpolate(inner[0], scale_factor=2.0, mode="nearest")
            inner.insert(0, self.top_down_blocks[k](torch.cat([upper, lower], dim=1)))
        outs = [inner[0]]
        for k, higher in enumerate(inner[1:]):
            outs.append(self.bottom_up_blocks[k](torch.cat([self.downsamples[k](outs[-1]), higher], dim=1)))
        return [conv(grid) for conv, grid in zip(self.out_convs, outs, strict=True)]


class SepBNHead(nn.Module):
    """The head: convolutions shared by the grids, batch norms of their own for each grid.

    Args:
        channels: Of the neck's grids.
        n_classes: Classes.
    """

    def __init__(self, channels: int, n_classes: int) -> None:
        super().__init__()
        self.cls_convs, self.reg_convs = (_shared_convs(channels) for _ in range(2))
        self.rtm_cls = nn.ModuleList(nn.Conv2d(channels, n_classes, 1) for _ in STRIDES)
        self.rtm_reg = nn.ModuleList(nn.Conv2d(channels, 4, 1) for _ in STRIDES)
        for conv in self.modules():
            if isinstance(conv, nn.Conv2d):
                nn.init.normal_(conv.weight, std=0.01)
                if conv.bias is not None:
                    nn.init.zeros_(conv.bias)
        for conv in self.rtm_cls:
            nn.init.constant_(conv.bias, -math.log(1 / PRIOR - 1))  # type: ignore[arg-type]

    def forward(self, grids: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        logits, distances = [], []
        for k, (grid, stride) in enumerate(zip(grids, STRIDES, strict=True)):
            seen, placed = grid, grid
            for number in range(N_CONVS):
                seen = self.cls_convs.get_submodule(f"{k}.{number}")(seen)
                placed = self.reg_convs.get_submodule(f"{k}.{number}")(placed)
            logits.append(self.rtm_cls[k](seen))
            distances.append(self.rtm_reg[k](placed) * stride)
        return logits, distances


def _shared_convs(channels: int) -> nn.ModuleList:
    """The convolutions of each grid; they are the same modules for all grids, their batch norms are not."""
    grids = [[ConvBlock(channels, channels, 3) for _ in range(N_CONVS)] for _ in STRIDES]
    for grid in grids:
        for block, first in zip(grid, grids[0], strict=True):
            block.conv = first.conv
    return nn.ModuleList(nn.ModuleList(grid) for grid in grids)


class RTMDet(nn.Module):
    """float (N, 3, H, W), H and W multiples of 32 → logits and box distances on three grids.

    Args:
        size: One of `SIZES`.
        n_classes: Classes.
        backbone: Instead of `CSPNeXt`: a module with ``channels``, those of its grids at strides 8, 16 and 32, which it
            returns. Neck and head are those of the size.

    Returns of `forward`:
        For each of the strides 8, 16 and 32: logits (N, n_classes, h, w), and the distances in pixels from the cell's
        upper left corner to the left, upper, right and lower side of its box, (N, 4, h, w).
    """

    class_layers: ClassVar[str] = "bbox_head.rtm_cls."

    def __init__(self, size: Size, n_classes: int, backbone: nn.Module | None = None) -> None:
        super().__init__()
        self.backbone = CSPNeXt(size) if backbone is None else backbone
        channels: list[int] = self.backbone.channels  # type: ignore[assignment]
        c_neck = int(256 * size.width)
        self.neck = PAFPN(channels, c_neck, max(round(3 * size.depth), 1))
        self.bbox_head = SepBNHead(c_neck, n_classes)

    def forward(self, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        out: tuple[list[Tensor], list[Tensor]] = self.bbox_head(self.neck(self.backbone(x)))
        return out


def merge_norms(network: nn.Module) -> nn.Module:
    """Make each batch norm and SiLU part of the convolution before them: the same function, for inference only."""
    for parent in [*network.modules()]:
        for name, block in parent.named_children():
            if isinstance(block, ConvBlock):
                setattr(parent, name, _merge(block))
    return network


def _merge(block: ConvBlock) -> Conv:
    """One convolution with its activation."""
    old = fuse_conv_bn_eval(block.conv, block.bn)
    side, stride = old.kernel_size[0], old.stride[0]
    merged = Conv(old.in_channels, old.out_channels, side, "silu", stride=stride, groups=old.groups)
    merged.weight, merged.bias = (nn.Parameter(tensor, requires_grad=False) for tensor in (old.weight, old.bias))  # type: ignore[arg-type]
    return merged


def make_cells(shapes: list[tuple[int, int]], device: torch.device) -> Tensor:
    """Upper left corner and stride of every cell, in pixels: (h, w) of the grids → float (P, 3)."""
    cells = []
    for number, (height, width) in enumerate(shapes):
        stride = STRIDES[0] << number
        y, x = torch.meshgrid(torch.arange(height, device=device), torch.arange(width, device=device), indexing="ij")
        cells.append(torch.stack([x * stride, y * stride, torch.full_like(x, stride)], dim=-1).reshape(-1, 3))
    return torch.cat(cells).float()


def flatten_grids(
    logits: Sequence[Tensor], distances: Sequence[Tensor], centres: Sequence[Tensor] = ()
) -> tuple[Tensor, Tensor, Tensor]:
    """The grids as lists of cells.

    Args:
        logits: (N, C, h, w) by grid, as `RTMDet` gives them; the strides are 8, 16, 32, and so on.
        distances: (N, 4, h, w) by grid.
        centres: Of `mitoscope.networks.fcos.FCOS`, logits (N, 1, h, w) by grid. The logits that are returned are then
            those of the geometric mean of both probabilities, as torchvision scores a box.

    Returns:
        Logits float (N, P, C), boxes float (N, P, 4) as left, upper, right and lower side in pixels, and the cells
        (P, 3), see `make_cells`; all in fp32.
    """
    cells = make_cells([(grid.shape[2], grid.shape[3]) for grid in logits], logits[0].device)
    flat, far = (torch.cat([g.flatten(2) for g in grids], dim=2).mT.float() for grids in (logits, distances))
    at = cells[:, :2]
    if centres:
        near = torch.cat([g.flatten(2) for g in centres], dim=2).mT.float()
        log_p = (F.logsigmoid(flat) + F.logsigmoid(near)) / 2
        flat = log_p - torch.log(-torch.expm1(log_p))
    return flat, torch.cat([at - far[..., :2], at + far[..., 2:]], dim=-1), cells
