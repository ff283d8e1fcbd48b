"""The members of a bundle as networks on a device."""

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn

from mitoscope.bundle.manifest import Bundle
from mitoscope.errors import DeviceError
from mitoscope.networks.device import DTYPES


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
            network = restore(state, str(bundle.folder / member.file))
            members.append(network.to(device, DTYPES[precision], memory_format=torch.channels_last))  # type: ignore[call-overload]  # torch's stubs lack memory_format
    except torch.OutOfMemoryError as error:
        raise out_of_memory(device, error, "the networks") from error
    return members


def out_of_memory(device: torch.device, error: torch.OutOfMemoryError, what: str) -> DeviceError:
    """The error for a GPU with too little free memory."""
    return DeviceError(
        f"the memory of {device} is full",
        got=str(error).partition(". ")[0],
        expected=f"room for {what}",
        remedy="free the GPU, or use --device cpu",
    )
