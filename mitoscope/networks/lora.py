"""Adapters: what a member changes in the base network that it shares with the others.

Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022. For inference the two factors are multiplied
into the layer that they adapt: W + B A, at no cost in a forward pass.
"""

from collections.abc import Mapping

from torch import Tensor

from mitoscope.bundle.manifest import RESTORE
from mitoscope.errors import WeightsError

A, B = ".lora_a", ".lora_b"  # appended to the layer's name


def merge_adapter(base: Mapping[str, Tensor], adapter: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """The state of one member; tensors that it does not change are the base's own, not copies.

    Args:
        base: Tensors of the base network by name, matrices (out, in).
        adapter: ``LAYER.lora_a`` (rank, in) and ``LAYER.lora_b`` (out, rank), the scale already in ``lora_b``; and
            whole tensors, such as the head's, which replace or add to the base's.
        name: The member's file, for a message.

    Raises:
        WeightsError: A factor has no partner, no layer in the base, or another shape.
    """
    merged = {**base, **{key: tensor for key, tensor in adapter.items() if not key.endswith((A, B))}}
    for key in adapter:
        if not key.endswith((A, B)):
            continue
        layer = key[: -len(A)]
        weight, a, b = base.get(f"{layer}.weight"), adapter.get(layer + A), adapter.get(layer + B)
        if weight is None or a is None or b is None or (b.shape[0], a.shape[1]) != weight.shape or b.shape[1] != len(a):
            raise WeightsError(
                f"{name} is an adapter of another base",
                got=f"{key} of shape {tuple(adapter[key].shape)}",
                expected=f"two factors of {layer}.weight in the base",
                remedy=RESTORE,
            )
        if key.endswith(A):
            merged[f"{layer}.weight"] = weight + (b.to(weight) @ a.to(weight))
    return merged
