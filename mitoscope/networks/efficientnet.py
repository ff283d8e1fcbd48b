"""EfficientNet-Lite as inference runs it: what timm's module computes, in fewer operations and without timm.

Tan and Le, *EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks*, ICML 2019 (arXiv 1905.11946);
the Lite variants leave out squeeze-and-excitation and use ReLU6. Training builds timm's ``tf_efficientnet_lite*``,
whose weights are read here; a test holds both to the same logits.
"""

import math
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from mitoscope.networks.layers import Conv, Dense, Runtime, State, clear_padding, fold_norm, list_folded, pad

NORM_EPS = 1e-3
GRIDS = (2, 4, 6)  # the stages whose results have strides 8, 16 and 32
STEM, HEAD = 32, 1280  # channels, in every Lite
STRIP_VALUES = 7 << 20  # of a wide grid on a CPU; 16 crops have fewer in Lite0 to Lite2
# Of each stage: blocks, side of the kernel, stride, expansion, channels; before scaling.
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
SCALES = {  # of channels and of depth
    "tf_efficientnet_lite0": (1.0, 1.0),
    "tf_efficientnet_lite1": (1.0, 1.1),
    "tf_efficientnet_lite2": (1.1, 1.2),
    "tf_efficientnet_lite3": (1.2, 1.4),
    "tf_efficientnet_lite4": (1.4, 1.8),
}


def find_runtime(architecture: str) -> Runtime | None:
    """For a timm model name, with or without the dot that names weights; None for another family's."""
    scales = _find_scales(architecture)
    return None if scales is None else Runtime(lambda: EfficientNetLite(*scales), fold_norms, bf16="slides")


def find_backbone(architecture: str) -> Runtime | None:
    """As `find_runtime`, for a detector's backbone: timm's network with ``features_only``."""
    scales = _find_scales(architecture)
    return (
        None if scales is None else Runtime(lambda: EfficientNetLiteGrids(*scales), fold_backbone_norms, bf16="slides")
    )


def _find_scales(architecture: str) -> tuple[float, float] | None:
    """Of channels and of depth."""
    return SCALES.get(architecture.partition(".")[0])


class EfficientNetLite(nn.Module):
    """float (N, 3, S, S) → float (N, 1), the logit of the positive class. It takes `fold_norms`' weights.

    Attributes:
        feature_info: Each stage's module by name and its number of channels, in timm's words.

    Args:
        width: Factor on the channels of the stages.
        depth: Factor on the blocks of all stages but the first and the last.
    """

    def __init__(self, width: float, depth: float) -> None:
        super().__init__()
        self.conv_stem = _make_stem()
        self.blocks, channels = _make_stages(width, depth)
        self.feature_info = [{"module": f"blocks.{number}", "num_chs": c} for number, c in enumerate(channels)]
        self.conv_head = Conv(channels[-1], HEAD, 1, "relu6")
        self.classifier = Dense(HEAD, 1)

    def forward(self, x: Tensor) -> Tensor:
        logit: Tensor = self.classifier(self.conv_head(self.blocks(self.conv_stem(x))).mean(dim=(2, 3)))
        return logit


class EfficientNetLiteGrids(nn.Module):
    """A detector's backbone: float (N, 3, H, W) → grids at strides 8, 16 and 32, from `fold_backbone_norms`' weights.

    Attributes:
        channels: Of the three grids.
        exact: Layers that stay in fp32 where the others compute in less: they cause most of the rounding error
            (docs/adr/0027).

    Args:
        width: As `EfficientNetLite` has it.
        depth: As `EfficientNetLite` has it.
    """

    def __init__(self, width: float, depth: float) -> None:
        super().__init__()
        self.conv_stem = _make_stem()
        self.blocks, channels = _make_stages(width, depth)
        self.channels = [channels[number] for number in GRIDS]
        self.exact = (self.conv_stem, self.blocks[0])

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.conv_stem(x.to(self.conv_stem.weight.dtype))
        grids = []
        for number, stage in enumerate(self.blocks):
            x = stage(x.to(next(stage.parameters()).dtype))
            if number in GRIDS:
                grids.append(x)
        return grids


def _make_stem() -> Conv:
    """The first convolution."""
    return Conv(3, STEM, 3, "relu6", stride=2, same=True)


def _make_stages(width: float, depth: float) -> tuple[nn.Sequential, list[int]]:
    """All stages, and the channels of each one's result."""
    stages, c_outs, c_in = [], [], STEM
    for number, (count, side, stride, expand, channels) in enumerate(STAGES):
        c_out = _round_channels(channels * width)
        fixed = number in (0, len(STAGES) - 1)
        blocks = []
        for k in range(count if fixed else math.ceil(count * depth)):
            blocks.append(Block(c_in, c_out, side, stride if k == 0 else 1, expand))
            c_in = c_out
        stages.append(nn.Sequential(*blocks))
        c_outs.append(c_out)
    return nn.Sequential(*stages), c_outs


class Block(nn.Module):
    """Expand, depthwise convolution, project; adds its input where the grid and the channels stay.

    Args:
        c_in: Channels of the input.
        c_out: Channels of the output.
        side: Of the depthwise kernel, in pixels.
        stride: 2 halves the grid.
        expand: Channels in between, as a multiple of `c_in`; 1 leaves the expansion out.
    """

    def __init__(self, c_in: int, c_out: int, side: int, stride: int, expand: int) -> None:
        super().__init__()
        c_mid = c_in * expand
        if expand > 1:
            self.conv_pw = Conv(c_in, c_mid, 1, "relu6")
        self.conv_dw = Conv(c_mid, c_mid, side, "relu6", stride=stride, groups=c_mid, same=True)
        self.project = Conv(c_mid, c_out, 1)  # timm calls it conv_pw in the first stage, conv_pwl in the others
        self.adds = stride == 1 and c_in == c_out

    def forward(self, x: Tensor) -> Tensor:
        n_values = x[:, :1].numel() * self.conv_dw.in_channels
        if hasattr(self, "conv_pw") and x.device.type == "cpu" and n_values > STRIP_VALUES:
            out = self._convolve_strips(x)
        else:
            sides = self.conv_dw.find_padding(x)
            grid = pad(x, sides)
            if hasattr(self, "conv_pw"):
                # The wide grid itself is not padded: that copy would be the network's largest tensor.
                grid = clear_padding(self.conv_pw(grid), sides)
            out = self.project(self.conv_dw.convolve(grid))
        return out.add_(x) if self.adds else out

    def _convolve_strips(self, x: Tensor) -> Tensor:
        """The same in strips of rows, to the same bits: the wide grid of a large image would fill the memory."""
        sides, side, stride = self.conv_dw.find_all_padding(x), self.conv_dw.kernel_size[0], self.conv_dw.stride[0]
        grid = pad(x, sides)
        n_rows = (grid.shape[2] - side) // stride + 1
        at_once = max(STRIP_VALUES // (stride * grid[:, :1, 0].numel() * self.conv_dw.in_channels), 1)
        strips = []
        for first in range(0, n_rows, at_once):
            start, end = first * stride, (min(first + at_once, n_rows) - 1) * stride + side
            # Rows of padding may lie in several strips.
            ends = (*sides[:2], max(sides[2] - start, 0), max(sides[3] - (grid.shape[2] - end), 0))
            wide = clear_padding(self.conv_pw(grid[:, :, start:end]), ends)
            strips.append(self.project(self.conv_dw.convolve(wide, padding=0)))
        return torch.cat(strips, dim=2)


def _round_channels(channels: float, divisor: int = 8) -> int:
    """To a multiple of 8, never down by more than a tenth; as the paper's authors do."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


def fold_norms(state: State) -> dict[str, Tensor]:
    """timm's weights → those of `EfficientNetLite`: every batch norm becomes part of the convolution before it.

    Tensors that belong to nothing keep their names, so that they are found to be surplus.

    Raises:
        KeyError: A norm lacks one of its tensors or has no convolution, or a surplus tensor has a folded one's name.
        RuntimeError: Its tensors are of another shape than the convolution's.
    """
    kept = {f"classifier.{kind}": state[f"classifier.{kind}"] for kind in ("weight", "bias")}
    return _fold(state, [*_pairs(state), ("conv_head", "bn2", "conv_head")], kept)


def fold_backbone_norms(state: State) -> dict[str, Tensor]:
    """As `fold_norms`, for `EfficientNetLiteGrids`."""
    return _fold(state, _pairs(state), {})


def _fold(state: State, pairs: Iterable[tuple[str, str, str]], kept: dict[str, Tensor]) -> dict[str, Tensor]:
    """Fold each norm into its convolution, beside the tensors that are kept as they are."""
    folded, used = dict(kept), set(kept)
    for conv, norm, name in pairs:
        used |= list_folded(conv, norm)
        tensors = fold_norm(state, conv, norm, NORM_EPS)
        folded |= {f"{name}.{kind}": tensors[f"{conv}.{kind}"] for kind in ("weight", "bias")}
    surplus = {key: tensor for key, tensor in state.items() if key not in used}
    if twice := folded.keys() & surplus.keys():
        raise KeyError(f"{min(twice)} beside the tensors that it is made of")
    return folded | surplus


def _pairs(state: State) -> Iterator[tuple[str, str, str]]:
    """Each convolution before the head, the norm after it, and what the convolution is called here."""
    yield "conv_stem", "bn1", "conv_stem"
    for block in sorted({key.rpartition(".conv_dw.")[0] for key in state if ".conv_dw." in key}):
        if f"{block}.conv_pwl.weight" in state:
            yield f"{block}.conv_pw", f"{block}.bn1", f"{block}.conv_pw"
            yield f"{block}.conv_dw", f"{block}.bn2", f"{block}.conv_dw"
            yield f"{block}.conv_pwl", f"{block}.bn3", f"{block}.project"
        else:
            yield f"{block}.conv_dw", f"{block}.bn1", f"{block}.conv_dw"
            yield f"{block}.conv_pw", f"{block}.bn2", f"{block}.project"
