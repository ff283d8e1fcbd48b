"""Adapters: a member's changes to the base network that all members share.

Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022. For inference the product of the two factors
is added to the layer that they adapt, W + B A, so that a forward pass costs no more.
"""

from collections.abc import Mapping

from torch import Tensor

from mitoscope.bundle.checks import RESTORE
from mitoscope.errors import WeightsError

A, B = ".lora_a", ".lora_b"  # appended to the layer's name


def merge_adapter(base: Mapping[str, Tensor], adapter: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """Build the state of one member; unchanged tensors are shared with the base, not copied.

    Args:
        base: Tensors of the base network by name, matrices (out, in).
        adapter: ``LAYER.lora_a`` (rank, in) and ``LAYER.lora_b`` (out, rank), the scale already in ``lora_b``; and
            whole tensors, such as the head's, which replace or add to the base's.
        name: The member's file, for the message.

    Returns:
        Tensors by name; adapted matrices in fp32.

    Raises:
        WeightsError: A factor has no partner, no layer in the base, or another shape; or the adapter also replaces the
            whole layer.
    """
    merged = {**base, **{key: tensor for key, tensor in adapter.items() if not key.endswith((A, B))}}
    for key in adapter:
        if not key.endswith((A, B)):
            continue
        layer = key[: -len(A)]
        if f"{layer}.weight" in adapter:
            raise WeightsError(
                f"{name} changes a layer in two ways",
                got=f"{layer}.weight and {key}",
                expected="either the whole tensor or two factors",
                remedy=RESTORE,
            )
        weight, a, b = base.get(f"{layer}.weight"), adapter.get(layer + A), adapter.get(layer + B)
        if weight is None or a is None or b is None or not _fit(weight, a, b):
            raise WeightsError(
                f"{name} is an adapter of another base",
                got=f"{key} of shape {tuple(adapter[key].shape)}",
                expected=f"two factors of {layer}.weight in the base",
                remedy=RESTORE,
            )
        if key.endswith(A):
            merged[f"{layer}.weight"] = weight.float() + b.float() @ a.float()
    return merged


def _fit(weight: Tensor, a: Tensor, b: Tensor) -> bool:
    """Whether B A has the shape of the weight."""
    matrices = weight.ndim == a.ndim == b.ndim == 2
    return matrices and (len(b), a.shape[1]) == weight.shape and len(a) == b.shape[1]
