"""Members that are adapters on one base in memory: the base, and each member's factors beside its layers.

A member is chosen by switching which factors the adapted layers add. What all members see alike, the patch embedding of
a batch, is computed once. One batch for all members would take their activations at once
(docs/adr/0021-one-base-many-adapters.md).
"""

import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mitoscope.bundle.checks import RESTORE
from mitoscope.errors import WeightsError
from mitoscope.networks.build import build_network, embed, find_runtime, name_head, restore_network
from mitoscope.networks.lora import Factors, reads_weight, split_adapter

Adapter = tuple[str, Mapping[str, Tensor]]  # the member's file, and its tensors


class AdaptedLinear(nn.Module):
    """A linear layer W x + b that adds B A x of the chosen member.

    Attributes:
        base: The layer that all members share.
        factors: Each member's; None where a member leaves the layer as it is.
        chosen: The member's number.
    """

    def __init__(self, base: nn.Linear, factors: Sequence[Factors | None]) -> None:
        super().__init__()
        self.base, self.chosen = base, 0
        self.in_features, self.out_features = base.in_features, base.out_features
        self.factors = list(factors)

    def forward(self, x: Tensor) -> Tensor:
        """float (…, in) → float (…, out)."""
        y: Tensor = self.base(x)
        factors = self.factors[self.chosen]
        return y if factors is None else y + F.linear(F.linear(x, factors[0]), factors[1])


class _Once:
    """Calls a function once for each batch, however many members see it."""

    def __init__(self, function: Any) -> None:  # noqa: ANN401 - timm's patch embedding
        self.function, self.result = function, None
        self.seen: weakref.ref[Tensor] | None = None

    def __call__(self, images: Tensor) -> Any:  # noqa: ANN401 - as timm's
        if self.seen is None or self.seen() is not images:
            self.result = self.function(images)
            self.seen = weakref.ref(images, self._forget)
        return self.result

    def _forget(self, _: object) -> None:
        """Free the result when the batch is gone."""
        self.result = None


class SharedBase(nn.Module):
    """The base network with all members' factors."""

    def __init__(self, network: nn.Module, layers: Sequence[AdaptedLinear]) -> None:
        super().__init__()
        self.network, self.layers = network, tuple(layers)

    def embed(self, images: Tensor, number: int) -> Tensor:
        """The embeddings by one member: float (N, 3, S, S) → float (N, D)."""
        for layer in self.layers:
            layer.chosen = number
        return embed(self.network, images)


class SharedMember(nn.Module):
    """One member: the shared base, its number, and its own last layer."""

    def __init__(self, shared: SharedBase, number: int, head: nn.Linear) -> None:
        super().__init__()
        self.shared, self.number, self.head = shared, number, head  # the head last: it makes the logit

    def forward(self, images: Tensor) -> Tensor:
        """float (N, 3, S, S) → the logit of the positive class (N, 1)."""
        logits: Tensor = self.head(self.shared.embed(images, self.number))
        return logits


def can_share_base(architecture: str, size_px: int, base: Mapping[str, Tensor], adapters: Sequence[Adapter]) -> bool:
    """Whether the members can share a base in memory. Others are merged, see `merge_adapter`.

    They can if timm runs the network, and each adapter changes linear layers by factors, and the last layer as a whole.

    Args:
        architecture: As for `mitoscope.networks.build.build_network`.
        size_px: As for `mitoscope.networks.build.build_network`.
        base: The base's tensors by timm's names.
        adapters: The members', see `mitoscope.networks.lora.split_adapter`.

    Raises:
        WeightsError: An adapter belongs to another base.
    """
    if find_runtime(architecture) is not None:
        return False
    plain, head = _plan(architecture, size_px)
    parts = [split_adapter(base, adapter, path) for path, adapter in adapters]
    return hasattr(plain, "patch_embed") and all(_is_simple(plain, head, *part) for part in parts)


def share_base(
    architecture: str, size_px: int, base: Mapping[str, Tensor], adapters: Sequence[Adapter]
) -> list[SharedMember]:
    """Build the members of a bundle of adapters that `can_share_base`.

    Args:
        architecture: As for `can_share_base`.
        size_px: As for `can_share_base`.
        base: The base's tensors, where and in what precision they are to be used; those that the network lacks are
            left out.
        adapters: As for `can_share_base`.

    Returns:
        The members in their order; they use the base's tensors without a copy.

    Raises:
        WeightsError: An adapter or the base belongs to another network.
    """
    plain, head = _plan(architecture, size_px)
    wanted = plain.state_dict()
    parts = [split_adapter(base, adapter, path) for path, adapter in adapters]
    for (path, _), (_, whole) in zip(adapters, parts, strict=True):
        _check_head(path, head, whole, wanted)
    known = {name: base[name] for name in wanted if name in base}
    device, dtype = next((tensor.device, tensor.dtype) for tensor in base.values() if tensor.is_floating_point())
    network = restore_network(architecture, size_px, {**known, **parts[0][1]}, "the base").to(device, dtype)
    layers = []
    for layer in sorted({layer for factors, _ in parts for layer in factors}):
        placed = [_place(factors.get(layer), device, dtype) for factors, _ in parts]
        layers.append(AdaptedLinear(network.get_submodule(layer), placed))  # type: ignore[arg-type]  # `_is_simple`
        network.set_submodule(layer, layers[-1])
    patches: Any = network.patch_embed
    patches.forward = _Once(patches.forward)
    network.set_submodule(head, nn.Identity())
    shared = SharedBase(network, layers)
    heads = [_head(whole[f"{head}.weight"], whole[f"{head}.bias"]).to(device, dtype) for _, whole in parts]
    return [SharedMember(shared, number, last) for number, last in enumerate(heads)]


def _plan(architecture: str, size_px: int) -> tuple[nn.Module, str]:
    """The network without memory, and the name of its last layer."""
    with torch.device("meta"):
        network = build_network(architecture, size_px)
    return network, name_head(network)


def _place(factors: Factors | None, device: torch.device, dtype: torch.dtype) -> Factors | None:
    """A member's factors of a layer, where the layer is."""
    return factors and (factors[0].to(device, dtype), factors[1].to(device, dtype))


def _is_simple(network: nn.Module, head: str, factors: Mapping[str, Factors], whole: Mapping[str, Tensor]) -> bool:
    """Whether an adapter changes linear layers by factors, and beside them the last layer as a whole."""
    if whole.keys() != {f"{head}.weight", f"{head}.bias"}:
        return False
    modules = dict(network.named_modules())
    return all(
        isinstance(modules.get(layer), nn.Linear) and not reads_weight(modules[layer.rpartition(".")[0]])
        for layer in factors
    )


def _check_head(path: str, head: str, whole: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Refuse a last layer of another length."""
    for name in (f"{head}.weight", f"{head}.bias"):
        if whole[name].shape != wanted[name].shape or not whole[name].is_floating_point():
            raise WeightsError(
                f"{path} is an adapter of another base",
                got=f"{name} of shape {tuple(whole[name].shape)}, {whole[name].dtype}",
                expected=f"shape {tuple(wanted[name].shape)}",
                remedy=RESTORE,
            )


def _head(weight: Tensor, bias: Tensor) -> nn.Linear:
    """A member's last layer."""
    with torch.device("meta"):
        head = nn.Linear(weight.shape[1], len(weight))
    head.load_state_dict({"weight": weight, "bias": bias}, assign=True)
    return head.requires_grad_(False)
