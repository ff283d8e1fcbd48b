"""Adapters: a member's changes to the base network that all members share.

Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022. A layer's weight becomes W + B A. Merged, a
forward pass costs no more, but every member has its own copy of the adapted layers; `mitoscope.networks.shared` keeps
the product apart.
"""

from collections.abc import Mapping

from torch import Tensor

from mitoscope.bundle.checks import RESTORE
from mitoscope.errors import WeightsError
from mitoscope.networks.build import BESIDE

A, B = ".lora_a", ".lora_b"  # appended to the layer's name
Factors = tuple[Tensor, Tensor]  # (rank, in) and (out, rank)


def split_adapter(
    base: Mapping[str, Tensor], adapter: Mapping[str, Tensor], name: str
) -> tuple[dict[str, Factors], dict[str, Tensor]]:
    """Separate an adapter's factors from its whole tensors, and check them.

    Args:
        base: Tensors of the base network by name: matrices (out, in), or kernels (out, in, 1, 1).
        adapter: ``LAYER.lora_a`` (rank, in) and ``LAYER.lora_b`` (out, rank), the scale already in ``lora_b``; and
            whole tensors, such as the head's, which replace or add to the base's.
        name: The member's file, for the message.

    Returns:
        A and B by layer; and the whole tensors by name.

    Raises:
        WeightsError: A factor has no partner, no layer in the base, or another shape; or the adapter also replaces the
            whole layer.
    """
    whole = {key: tensor for key, tensor in adapter.items() if not key.endswith((A, B))}
    factors = {}
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
        factors[layer] = (a, b)
    return factors, whole


def merge_adapter(base: Mapping[str, Tensor], adapter: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """Build the state of one member; unchanged tensors are shared with the base, not copied.

    Args:
        base: As for `split_adapter`.
        adapter: As for `split_adapter`.
        name: The member's file, for the message.

    Returns:
        Tensors by name; adapted ones in fp32.

    Raises:
        WeightsError: See `split_adapter`.
    """
    factors, whole = split_adapter(base, adapter, name)
    merged = {name: tensor for name, tensor in base.items() if name not in BESIDE} | whole
    for layer, (a, b) in factors.items():
        weight = base[f"{layer}.weight"]
        merged[f"{layer}.weight"] = weight.float() + (b.float() @ a.float()).view_as(weight)
    return merged


def reads_weight(attention: object) -> bool:
    """Whether timm's attention uses the weight of qkv and does not call the layer: factors would be ignored."""
    return getattr(attention, "q_bias", None) is not None


def _fit(weight: Tensor, a: Tensor, b: Tensor) -> bool:
    """Whether B A has the shape of the weight, or of a kernel of 1 × 1."""
    if a.ndim != 2 or b.ndim != 2 or len(a) != b.shape[1]:
        return False
    return tuple(weight.shape) in ((len(b), a.shape[1]), (len(b), a.shape[1], 1, 1))
