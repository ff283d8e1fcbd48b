"""The layers that inference networks share, and the folding of batch norms into convolutions."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

FUSED = {"relu6": ("hardtanh", [0.0, 6.0]), "silu": ("swish", [])}  # what oneDNN calls them, and its numbers
State = Mapping[str, Tensor]
Sides = tuple[int, int, int, int]  # rows or columns of padding on the left, right, above and below


@dataclass(frozen=True)
class Runtime:
    """How inference runs a network without timm.

    Attributes:
        build: Makes the module, without weights.
        fold: timm's tensors → the module's, and surplus ones under their own names. Raises KeyError or RuntimeError
            where they are another network's.
        bf16: When ``auto`` takes bf16 on a CPU with bf16 arithmetic: ``"always"``, for ``"slides"`` alone, or
            ``"never"``, since it is not faster.
    """

    build: Callable[[], nn.Module]
    fold: Callable[[State], dict[str, Tensor]]
    bf16: str = "never"


class _NoInitialisation(TorchFunctionMode):
    """torch.nn.init's functions leave their tensor as it is."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - whatever the function returns
        values = dict(kwargs or {})
        if getattr(func, "__module__", None) == nn.init.__name__:
            return values["tensor"] if "tensor" in values else args[0]
        return func(*args, **values)


@contextmanager
def empty_weights() -> Iterator[None]:
    """Networks that are built inside have only shapes; their weights will come from a file.

    No random numbers are drawn: without memory to draw them into, torch would import modules for a second.
    """
    with torch.device("meta"), _NoInitialisation():
        yield


class Conv(nn.Conv2d):
    """A convolution that keeps the grid, but for its stride, and the activation after it, if any.

    On a CPU oneDNN applies the activation while the result is in its registers, by the operator that torch's own
    compiler calls; nothing can be differentiated through that.

    Args:
        c_in: Channels of the input.
        c_out: Channels of the output.
        side: Of the kernel, in pixels.
        after: ``"gelu"`` (its tanh form), ``"hardswish"``, ``"relu6"``, ``"silu"`` or ``"none"``.
        stride: 2 halves the grid.
        groups: As `torch.nn.Conv2d` has them.
        bias: Whether it adds one.
        same: Pad as TensorFlow does: where the padding is odd, one more on the right and below.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        side: int,
        after: str = "none",
        *,
        stride: int = 1,
        groups: int = 1,
        bias: bool = True,
        same: bool = False,
    ) -> None:
        uneven = same and stride > 1
        padding = 0 if uneven else side // 2
        super().__init__(c_in, c_out, side, stride=stride, padding=padding, groups=groups, bias=bias)
        self.after, self.uneven = after, uneven

    def reset_parameters(self) -> None:
        """Nothing: the weights come from a file."""

    def forward(self, x: Tensor) -> Tensor:
        return self.convolve(pad(x, self.find_padding(x)))

    def find_padding(self, x: Tensor) -> Sides:
        """What `convolve` needs around (N, C, H, W), so that the grid becomes ceil(side / stride)."""
        return self.find_all_padding(x) if self.uneven else (0, 0, 0, 0)

    def find_all_padding(self, x: Tensor) -> Sides:
        """All padding of this convolution; call `convolve` with ``padding=0`` then."""
        side, stride = self.kernel_size[0], self.stride[0]
        rows, columns = (max((-(-size // stride) - 1) * stride + side - size, 0) for size in x.shape[2:])
        return columns // 2, columns - columns // 2, rows // 2, rows - rows // 2

    def convolve(self, x: Tensor, padding: int | None = None) -> Tensor:
        """As `forward`, for a grid that has its `find_padding`, or all of it."""
        sides = self.padding if padding is None else (padding, padding)
        differentiated = x.requires_grad or self.weight.requires_grad
        if x.device.type != "cpu" or differentiated or not has_fused(x.dtype):
            plain = F.conv2d(x, self.weight, self.bias, self.stride, sides, self.dilation, self.groups)
            return activate(plain, self.after)
        name, numbers = FUSED.get(self.after, (self.after, []))
        fused: Tensor = torch.ops.mkldnn._convolution_pointwise(
            x, self.weight, self.bias, sides, self.stride, self.dilation, self.groups, name, numbers, "tanh"
        )
        return fused


def pad(x: Tensor, sides: Sides) -> Tensor:
    """(N, C, H, W) with zeros around it; itself where there are none."""
    return F.pad(x, sides) if any(sides) else x


def clear_padding(x: Tensor, sides: Sides) -> Tensor:
    """The same tensor; what `pad` put around it is zero again."""
    if any(sides):
        left, right, above, below = sides
        height, width = x.shape[2:]
        for border in (x[..., :left], x[..., width - right :], x[..., :above, :], x[..., height - below :, :]):
            border.zero_()
    return x


@cache
def has_fused(dtype: torch.dtype) -> bool:
    """Whether oneDNN's fused operator computes in a precision on this CPU."""
    return dtype == torch.float32 or (dtype == torch.bfloat16 and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported()))


class Dense(nn.Linear):
    """A fully connected layer, float (N, features)."""

    def reset_parameters(self) -> None:
        """Nothing: the weights come from a file; torch would import for 0.3 s to draw random ones without memory."""


def activate(x: Tensor, name: str) -> Tensor:
    """One of the activations that `Conv` names."""
    if name == "gelu":
        return F.gelu(x, approximate="tanh")
    if name == "relu6":
        return F.relu6(x)
    if name == "silu":
        return F.silu(x)
    return F.hardswish(x) if name == "hardswish" else x


def list_folded(conv: str, norm: str) -> set[str]:
    """The names of the tensors that `fold_norm` replaces."""
    kinds = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    return {f"{conv}.weight", *(f"{norm}.{kind}" for kind in kinds)}


def fold_norm(state: State, conv: str, norm: str, eps: float) -> dict[str, Tensor]:
    """Make a batch norm part of the convolution before it.

    Args:
        state: A network's tensors.
        conv: The convolution's name, such as ``"stem.conv"``; it must have no bias.
        norm: The norm's name.
        eps: What the norm adds to the variance.

    Returns:
        The convolution's weight and bias, fp32, by their names.

    Raises:
        KeyError: A tensor of the two is missing, or the convolution has a bias.
        RuntimeError: The norm has another number of channels than the convolution.
    """
    if f"{conv}.bias" in state:
        raise KeyError(f"{conv}.bias beside a norm")
    parts = (f"{conv}.weight", *(f"{norm}.{name}" for name in ("weight", "bias", "running_mean", "running_var")))
    weight, gain, shift, mean, variance = (state[name].float() for name in parts)
    scale = gain / (variance + eps).sqrt()
    return {f"{conv}.weight": weight * scale.view(-1, 1, 1, 1), f"{conv}.bias": shift - mean * scale}
