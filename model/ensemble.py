"""Five networks, one answer: uint8 crops in, probabilities of *atypical* out, numpy on both sides."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from model.bundle import RESTORE, Bundle, Member, find_bundle, read_bundle, read_member
from model.errors import DeviceError, WeightsError
from model.network import build_network
from model.preprocess import preprocess

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class Ensemble:
    """The members of one bundle on one device.

    Attributes:
        bundle: The manifest.
        device: Where the members are.
        precision: ``"fp32"``, ``"fp16"`` or ``"bf16"``.
    """

    def __init__(self, bundle: Bundle, members: list[nn.Module], device: torch.device, precision: str) -> None:
        self.bundle, self.device, self.precision = bundle, device, precision
        self._members = members

    @classmethod
    def load(cls, weights: str | Path | None = None, *, device: str = "auto", precision: str = "auto") -> "Ensemble":
        """Read, verify and place the five members.

        Args:
            weights: The bundle's folder; None: see `model.bundle.find_bundle`.
            device: ``"auto"`` (the GPU when there is one), ``"cpu"`` or ``"cuda"``.
            precision: ``"auto"`` (fp16 on a GPU, fp32 on a CPU), ``"fp32"``, ``"fp16"`` or ``"bf16"``.

        Raises:
            WeightsError: The bundle is missing or not whole.
            DeviceError: The device or the precision is not to be had on this machine, or the GPU's memory is full.
        """
        bundle = read_bundle(find_bundle(None if weights is None else Path(weights)))
        place = choose_device(device)
        chosen = choose_precision(precision, place)
        try:
            members = [
                load_member(bundle, member).to(place, DTYPES[chosen], memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack memory_format
                for member in bundle.members
            ]
        except torch.OutOfMemoryError as error:
            raise _out_of_memory(place, error) from error
        return cls(bundle, members, place, chosen)

    @property
    def members(self) -> tuple[nn.Module, ...]:
        """The networks, in the members' order: float (B, 3, size_px, size_px) → logit of *atypical* (B, 1)."""
        return tuple(self._members)

    def predict_members(self, crops: np.ndarray, batch_size: int = 64) -> np.ndarray:
        """Ask every member about every crop.

        Args:
            crops: uint8 (N, 128, 128, 3), RGB in [0, 255].
            batch_size: Crops in one forward pass.

        Returns:
            float64 (5, N): P(atypical) in [0, 1] by member and crop.

        Raises:
            DeviceError: The GPU's memory is full, or a probability is not a finite number.
        """
        try:
            batches = [self._forward(crops[i : i + batch_size]) for i in range(0, len(crops), batch_size)]
        except torch.OutOfMemoryError as error:
            raise _out_of_memory(self.device, error) from error
        p_members = np.concatenate([np.empty((len(self._members), 0)), *batches], axis=1)  # (5, N)
        if not np.isfinite(p_members).all():
            raise DeviceError(
                f"{int((~np.isfinite(p_members)).sum())} probabilities are no numbers",
                got=f"overflow in {self.precision} on {self.device}",
                expected="finite values",
                remedy="run again with --precision fp32",
            )
        return p_members

    def predict_proba(self, crops: np.ndarray, batch_size: int = 64) -> np.ndarray:
        """The members' mean P(atypical): uint8 (N, 128, 128, 3) → float64 (N,) in [0, 1]."""
        mean: np.ndarray = self.predict_members(crops, batch_size).mean(axis=0)
        return mean

    @torch.inference_mode()
    def _forward(self, crops: np.ndarray) -> np.ndarray:
        """One batch through all members: uint8 (B, 128, 128, 3) → float64 (5, B)."""
        images = preprocess(crops, self.bundle.input, self.device).to(DTYPES[self.precision])
        logits = torch.stack([member(images).squeeze(1) for member in self._members])  # (5, B)
        return logits.double().sigmoid().cpu().numpy()


def load_member(bundle: Bundle, member: Member) -> nn.Module:
    """One member in fp32 on the CPU, in evaluation mode.

    Raises:
        WeightsError: The file's hash is wrong, or its tensors are not those of the manifest's architecture.
    """
    state = read_member(bundle, member)
    with torch.device("meta"):  # no random initialisation of weights that are replaced at once
        network = build_network(bundle.architecture, bundle.input.size_px)
    problem = next(_mismatches(network.state_dict(), state), None)
    if problem:
        raise WeightsError(
            f"{bundle.folder / member.file} is of another architecture",
            got=problem,
            expected=f"the tensors of {bundle.architecture}",
            remedy=RESTORE,
        )
    full = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    network.load_state_dict(full, strict=True, assign=True)
    if any(buffer.is_meta for buffer in network.buffers()):  # what Swin and others compute and do not store
        network = build_network(bundle.architecture, bundle.input.size_px)
        network.load_state_dict(full, strict=True)
    return network.eval()


def _mismatches(expected: dict[str, Tensor], got: dict[str, Tensor]) -> Iterator[str]:
    """Every tensor that is missing, surplus, or of another shape or kind, in words."""
    for name in sorted(expected.keys() | got.keys()):
        if name not in got:
            yield f"no tensor {name}"
        elif name not in expected:
            yield f"a surplus tensor {name}"
        elif got[name].shape != expected[name].shape:
            yield f"{name} of shape {tuple(got[name].shape)}"
        elif got[name].is_floating_point() != expected[name].is_floating_point():
            yield f"{name} of type {got[name].dtype}"


def _out_of_memory(device: torch.device, error: torch.OutOfMemoryError) -> DeviceError:
    """The GPU is too small, or others use it."""
    return DeviceError(
        f"the memory of {device} is full",
        got=str(error).partition(". ")[0],
        expected="room for five networks and a batch",
        remedy="free the GPU, or use --device cpu",
    )


def choose_device(device: str) -> torch.device:
    """The device for ``"auto"``, ``"cpu"`` or ``"cuda"``; asking for a GPU that is not there is an error."""
    available = torch.cuda.is_available()
    if device == "cuda" and not available:
        raise DeviceError(
            "--device cuda cannot be used",
            got="no CUDA device that torch can see",
            expected="an NVIDIA GPU with driver 525 or newer",
            remedy="select a GPU (docker run --gpus all), or use --device cpu",
        )
    return torch.device("cuda" if device == "cuda" or (device == "auto" and available) else "cpu")


def choose_precision(precision: str, device: torch.device) -> str:
    """The precision for ``"auto"`` and a check of any other; fp16 needs a GPU, bf16 on a GPU needs Ampere."""
    if precision == "auto":
        return "fp16" if device.type == "cuda" else "fp32"
    lacking = (precision == "fp16" and device.type == "cpu") or (
        precision == "bf16" and device.type == "cuda" and torch.cuda.get_device_capability(device) < (8, 0)
    )
    if lacking:
        raise DeviceError(
            f"--precision {precision} cannot be used",
            got=f"device {device.type} without {precision} arithmetic",
            expected="fp32 everywhere, fp16 on a GPU, bf16 on a CPU or a GPU from Ampere on",
            remedy="use --precision auto",
        )
    return precision
