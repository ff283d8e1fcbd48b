"""The members of a bundle as networks on a device."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn

from mitoscope.bundle.manifest import Bundle
from mitoscope.errors import DeviceError
from mitoscope.networks.device import DTYPES
from mitoscope.networks.shared import Adapter, SharedMember, can_share_base, share_base


def place_members(
    bundle: Bundle,
    states: Iterable[Mapping[str, Tensor]],
    restore: Callable[[Mapping[str, Tensor], str], nn.Module],
    device: torch.device,
    precision: str,
) -> list[nn.Module]:
    """Restore and place all members.

    Args:
        bundle: The manifest.
        states: The members' tensors, in the members' order.
        restore: A member's tensors, and its file's path for messages → its network.
        device: As `mitoscope.networks.device.choose_device` gives it.
        precision: As `mitoscope.networks.device.choose_precision` gives it.

    Raises:
        WeightsError: A member's tensors belong to another network.
        DeviceError: The device's memory is full.
    """
    members = []
    try:
        for member, state in zip(bundle.members, states, strict=True):
            members.append(_place(restore(state, str(bundle.folder / member.file)), device, DTYPES[precision]))
    except torch.OutOfMemoryError as error:
        raise out_of_memory(device, error, "the networks") from error
    return members


def _place(network: nn.Module, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """Move and convert a network; the layers that its modules name in ``exact`` keep their precision."""
    exact = [part for module in network.modules() for part in getattr(module, "exact", ())]
    whole = [deepcopy(part) for part in exact]
    network.to(device, dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack memory_format
    for part, own in zip(exact, whole, strict=True):
        part.load_state_dict(own.to(device, memory_format=torch.channels_last).state_dict(), assign=True)
    return network


def place_adapters(
    bundle: Bundle, base: Mapping[str, Tensor], adapters: Sequence[Adapter], device: torch.device, precision: str
) -> list[SharedMember] | None:
    """Place a base, and the members that are adapters on it.

    Args:
        bundle: The manifest.
        base: The tensors of the base.
        adapters: The members' files and tensors, in the members' order.
        device: As for `place_members`.
        precision: As for `place_members`.

    Returns:
        See `mitoscope.networks.shared.share_base`; None if the adapters must be merged.

    Raises:
        WeightsError: A member is an adapter of another base.
        DeviceError: The device's memory is full.
    """
    if not can_share_base(bundle.architecture, bundle.input.size_px, base, adapters):
        return None
    try:
        placed = {name: place_tensor(tensor, device, DTYPES[precision]) for name, tensor in base.items()}
        return share_base(bundle.architecture, bundle.input.size_px, placed, adapters)
    except torch.OutOfMemoryError as error:
        raise out_of_memory(device, error, "the networks") from error


def place_tensor(tensor: Tensor, device: torch.device, dtype: torch.dtype) -> Tensor:
    """As `Module.to` does it, so that it has nothing left to do."""
    layout = torch.channels_last if tensor.ndim == 4 else torch.preserve_format
    return tensor.to(device, dtype if tensor.is_floating_point() else tensor.dtype, memory_format=layout)


def out_of_memory(device: torch.device, error: torch.OutOfMemoryError, what: str) -> DeviceError:
    """The error for a GPU with too little free memory."""
    return DeviceError(
        f"the memory of {device} is full",
        got=str(error).partition(". ")[0],
        expected=f"room for {what}",
        remedy="free the GPU, or use --device cpu",
    )
