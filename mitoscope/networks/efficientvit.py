"""EfficientViT as inference runs it: the function that timm's module computes, in fewer operations and without timm.

Cai et al., *EfficientViT: Multi-Scale Linear Attention for High-Resolution Dense Prediction*, ICCV 2023
(arXiv 2205.14756). Training builds timm's modules; their weights are read here, and a test holds both to the same
logits. docs/adr/0009 shows what it saves.
"""

from collections import OrderedDict
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from mitoscope.networks.layers import Conv, Dense, Runtime, State, activate, fold_norm, list_folded

ATTENTION_EPS = 1e-5


@dataclass(frozen=True)
class Shape:
    """What differs between the networks of the family; the numbers are timm's.

    Attributes:
        widths: Channels of the stem and of the four stages.
        depths: Blocks of the stem and of the four stages.
        head_widths: Channels of the head's two layers.
        head_dim: Channels of one head of the attention.
        large: The L series (dense 3 × 3 convolutions in the first two stages, GELU, attention in the last stage alone),
            not the B series (depthwise ones, hard swish, attention in the last two stages).
    """

    widths: tuple[int, int, int, int, int]
    depths: tuple[int, int, int, int, int]
    head_widths: tuple[int, int]
    head_dim: int = 32
    large: bool = False

    @property
    def activation(self) -> str:
        """The one after every convolution but a block's last."""
        return "gelu" if self.large else "hardswish"

    @property
    def norm_eps(self) -> float:
        """What the norms add to the variance."""
        return 1e-7 if self.large else 1e-5


SHAPES = {
    "efficientvit_b0": Shape((8, 16, 32, 64, 128), (1, 2, 2, 2, 2), (1024, 1280), head_dim=16),
    "efficientvit_b1": Shape((16, 32, 64, 128, 256), (1, 2, 3, 3, 4), (1536, 1600), head_dim=16),
    "efficientvit_b2": Shape((24, 48, 96, 192, 384), (1, 3, 4, 4, 6), (2304, 2560)),
    "efficientvit_b3": Shape((32, 64, 128, 256, 512), (1, 4, 6, 6, 9), (2304, 2560)),
    "efficientvit_l1": Shape((32, 64, 128, 256, 512), (1, 1, 1, 6, 6), (3072, 3200), large=True),
    "efficientvit_l2": Shape((32, 64, 128, 256, 512), (1, 2, 2, 8, 8), (3072, 3200), large=True),
    "efficientvit_l3": Shape((64, 128, 256, 512, 1024), (1, 2, 2, 8, 8), (6144, 6400), large=True),
}


def find_shape(architecture: str) -> Shape | None:
    """The shape of a timm model name, with or without the dot that names weights; None for another family's."""
    return SHAPES.get(architecture.partition(".")[0])


def find_runtime(architecture: str) -> Runtime | None:
    """For a timm model name; None for another family's."""
    shape = find_shape(architecture)
    if shape is None:
        return None
    fold = partial(fold_norms, eps=shape.norm_eps)
    return Runtime(lambda: EfficientViT(shape), fold, bf16="always" if shape.large else "never")


class EfficientViT(nn.Module):
    """float (N, 3, S, S), S a multiple of 32 → float (N, 1), the logit of the positive class.

    It takes `fold_norms`' weights.

    Attributes:
        feature_info: Each stage's module by name and its number of channels, in timm's words.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        widths, depths, after = shape.widths, shape.depths, shape.activation
        stem: dict[str, nn.Module] = {"in_conv": Conv(3, widths[0], 3, after, stride=2)}
        for k in range(depths[0]):
            stem[f"res{k}"] = Chain("conv" if shape.large else "separable", after, widths[0], widths[0])
        self.stem = nn.Sequential(OrderedDict(stem))
        self.stages = nn.Sequential(
            *(
                _make_stage(shape, k, c_in, c_out, depth)
                for k, (c_in, c_out, depth) in enumerate(zip(widths[:-1], widths[1:], depths[1:], strict=True))
            )
        )
        self.feature_info = [{"module": f"stages.{k}", "num_chs": c_out} for k, c_out in enumerate(widths[1:])]
        self.head = Head(shape)

    def forward(self, images: Tensor) -> Tensor:
        logit: Tensor = self.head(self.stages(self.stem(images)))
        return logit


def _make_stage(shape: Shape, k: int, c_in: int, c_out: int, depth: int) -> nn.Module:
    """Stage k: one block that halves the grid, and those after it, which keep it."""
    kind = "fused" if shape.large and k < 2 else "inverted"
    first, more = ((24 if k == 3 else 16), (6 if k == 3 else 4)) if shape.large else (4, 4)

    def keep() -> Chain:
        return Chain(kind, shape.activation, c_out, c_out, expand=more)

    blocks: list[nn.Module] = [Chain(kind, shape.activation, c_in, c_out, expand=first, stride=2)]
    if k == 3 or (k == 2 and not shape.large):
        for _ in range(depth):
            parts = OrderedDict(context_module=Attention(c_out, shape.head_dim), local_module=keep())
            blocks.append(nn.Sequential(parts))
    else:
        blocks += [keep() for _ in range(depth if shape.large else depth - 1)]
    return nn.Sequential(OrderedDict(blocks=nn.Sequential(*blocks)))


class Chain(nn.Sequential):
    """Convolutions one after another, all but the last with an activation; one that keeps the grid adds its input.

    Args:
        kind: ``"separable"``, ``"conv"``, ``"fused"`` or ``"inverted"``: DSConv, ConvBlock, FusedMBConv and MBConv in
            timm, whose names the convolutions bear.
        after: The activation, see `Conv`.
        c_in: Channels of the input.
        c_out: Channels of the output.
        expand: Channels in between, as a multiple of `c_in`.
        stride: 1, or 2 to halve the grid.
    """

    def __init__(self, kind: str, after: str, c_in: int, c_out: int, *, expand: int = 1, stride: int = 1) -> None:
        c_mid = c_in * expand
        convs = {
            "separable": lambda: {
                "depth_conv": Conv(c_in, c_in, 3, after, stride=stride, groups=c_in),
                "point_conv": Conv(c_in, c_out, 1),
            },
            "conv": lambda: {"conv1": Conv(c_in, c_mid, 3, after, stride=stride), "conv2": Conv(c_mid, c_out, 3)},
            "fused": lambda: {
                "spatial_conv": Conv(c_in, c_mid, 3, after, stride=stride),
                "point_conv": Conv(c_mid, c_out, 1),
            },
            "inverted": lambda: {
                "inverted_conv": Conv(c_in, c_mid, 1, after),
                "depth_conv": Conv(c_mid, c_mid, 3, after, stride=stride, groups=c_mid),
                "point_conv": Conv(c_mid, c_out, 1),
            },
        }
        super().__init__(OrderedDict(convs[kind]()))
        self.adds = stride == 1

    def forward(self, x: Tensor) -> Tensor:
        out = x
        for conv in self:
            out = conv(out)
        return out.add_(x) if self.adds else out


class Head(nn.Module):
    """The last stage's grid → the logit: float (N, C, H, W) → float (N, 1)."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        first, second = shape.head_widths
        self.activation = shape.activation
        self.in_conv = Conv(shape.widths[-1], first, 1, shape.activation)
        self.classifier = nn.ModuleDict(  # timm's places in a Sequential; 2 and 3 hold no weights
            {
                "0": Dense(first, second, bias=False),
                "1": nn.LayerNorm(second, eps=shape.norm_eps),
                "4": Dense(second, 1),
            }
        )

    def forward(self, x: Tensor) -> Tensor:
        dense, norm, last = self.classifier.values()
        pooled = self.in_conv(x).mean(dim=(2, 3))
        logit: Tensor = last(activate(norm(dense(pooled)), self.activation))
        return logit


class Attention(nn.Module):
    """Multi-scale linear attention with ReLU as its kernel (the paper's LiteMLA), added to its input.

    Linear: the products of keys and values are summed over the grid once, (head_dim, head_dim) for each head, and
    every query is multiplied by the sum. In fp32 whatever the network's precision: sums over a grid overflow fp16.
    """

    def __init__(self, channels: int, head_dim: int) -> None:
        super().__init__()
        self.head_dim = head_dim
        wide = 3 * channels
        self.qkv = Conv(channels, wide, 1, bias=False)
        near = nn.Sequential(
            Conv(wide, wide, 5, groups=wide, bias=False),
            Conv(wide, wide, 1, groups=wide // head_dim, bias=False),
        )
        self.aggreg = nn.Sequential(near)  # timm has one for each scale beside the grid's own; all networks have one
        self.proj = Conv(2 * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        n, _, height, width = x.shape
        qkv = self.qkv(x)
        scales = torch.cat([qkv, self.aggreg(qkv)], dim=1).float()
        q, k, v = scales.reshape(n, -1, 3, self.head_dim, height * width).unbind(dim=2)  # each (n, heads, dim, cells)
        q, k = q.relu(), k.relu()
        weighted = (v @ k.mT) @ q  # (n, heads, dim, cells)
        norm = k.sum(dim=-1).unsqueeze(-2) @ q  # (n, heads, 1, cells)
        seen = (weighted / (norm + ATTENTION_EPS)).reshape(n, -1, height, width).to(x.dtype)
        out: Tensor = self.proj(seen.contiguous(memory_format=torch.channels_last))
        return out.add_(x)


def fold_norms(state: State, eps: float) -> dict[str, Tensor]:
    """Turn timm's weights into those of `EfficientViT`: every batch norm becomes part of the convolution before it.

    Args:
        state: Tensors by timm's names.
        eps: What the norms add to the variance.

    Returns:
        Tensors by the names of `EfficientViT`: fp32 where a norm was folded, else those of `state`. Tensors that belong
        to nothing are among them, so that they are found to be surplus.

    Raises:
        KeyError: A norm lacks one of its tensors or follows no convolution, or two tensors have the same name.
        RuntimeError: Its tensors are of another shape than the convolution's.
    """
    folded = dict(state)
    for layer in (name.removesuffix(".norm.running_var") for name in state if name.endswith(".norm.running_var")):
        tensors = fold_norm(state, f"{layer}.conv", f"{layer}.norm", eps)
        for name in list_folded(f"{layer}.conv", f"{layer}.norm"):
            folded.pop(name, None)
        folded |= tensors
    renamed: dict[str, Tensor] = {}
    for name, tensor in folded.items():
        own = name.replace(".main.", ".").replace(".conv.", ".")
        if own in renamed:
            raise KeyError(f"two tensors for {own}")
        renamed[own] = tensor
    return renamed
