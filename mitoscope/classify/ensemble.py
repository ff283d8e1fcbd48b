"""Five networks, one answer: uint8 crops in, probabilities of *atypical* out, numpy on both sides."""

import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import nn

from model.bundle import find_bundle, read_ahead, read_bundle
from model.efficientvit import find_shape
from model.errors import DeviceError
from model.manifest import Bundle
from model.network import restore_network
from model.preprocess import preprocess
from model.weights import parse_member

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
MOST_FLIPPED = 0.005  # the share of classes that a precision may change and still be chosen by ``auto``


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
            precision: ``"fp32"``, ``"fp16"``, ``"bf16"`` or ``"auto"``, see `choose_precision`.

        Raises:
            WeightsError: The bundle is missing or not whole.
            DeviceError: The device or the precision is not to be had on this machine, or the GPU's memory is full.
        """
        bundle = read_bundle(find_bundle(None if weights is None else Path(weights)))
        where = choose_device(device)
        chosen = choose_precision(precision, where, bundle)  # before anything is read
        return cls.place(bundle, read_ahead(bundle), where, chosen)

    @classmethod
    def place(cls, bundle: Bundle, contents: Iterator[bytes], device: torch.device, precision: str) -> "Ensemble":
        """Do what `load` does with members that are being read: `model.bundle.read_ahead`'s, in their order.

        Args:
            bundle: The manifest.
            contents: The members' files.
            device: `choose_device`'s.
            precision: `choose_precision`'s.
        """
        members = []
        try:
            for member, content in zip(bundle.members, contents, strict=True):
                path = str(bundle.folder / member.file)
                tensors = parse_member(content, path)
                network = restore_network(bundle.architecture, bundle.input.size_px, tensors, path)
                members.append(network.to(device, DTYPES[precision], memory_format=torch.channels_last))  # type: ignore[call-overload]  # torch's stubs lack memory_format
        except torch.OutOfMemoryError as error:
            raise _out_of_memory(device, error) from error
        return cls(bundle, members, device, precision)

    @property
    def members(self) -> tuple[nn.Module, ...]:
        """The networks, in the members' order: float (B, 3, size_px, size_px) → logit of *atypical* (B, 1)."""
        return tuple(self._members)

    def predict_members(self, crops: np.ndarray, batch_size: int = 64, *, shrink: bool = True) -> np.ndarray:
        """Ask every member about every crop.

        Args:
            crops: uint8 (N, 128, 128, 3), RGB in [0, 255].
            batch_size: Crops in one forward pass.
            shrink: Where the GPU's memory does not take them, try half as many, down to one, and warn: with another
                number, the last digits may be others.

        Returns:
            float64 (5, N): P(atypical) in [0, 1] by member and crop.

        Raises:
            DeviceError: The GPU's memory is too small, or a probability is not a finite number.
        """
        batches: list[np.ndarray] = []
        done = 0
        while done < len(crops):
            batch = crops[done : done + batch_size]
            try:
                batches.append(self._forward(batch))
                done += len(batch)
            except torch.OutOfMemoryError as error:
                if len(batch) == 1 or not shrink:
                    raise _out_of_memory(self.device, error) from error
                batch_size = len(batch) // 2
                message = (
                    f"the memory of {self.device} is too small for {len(batch)} crops at once: trying {batch_size}"
                )
                warnings.warn(message, stacklevel=2)
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


def _out_of_memory(device: torch.device, error: torch.OutOfMemoryError) -> DeviceError:
    """The GPU is too small, or others use it."""
    return DeviceError(
        f"the memory of {device} is full",
        got=str(error).partition(". ")[0],
        expected="room for five networks and a crop",
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


def choose_precision(precision: str, device: torch.device, bundle: Bundle) -> str:
    """The precision for ``"auto"`` and a check of any other; fp16 needs a GPU, bf16 on a GPU needs Ampere.

    ``"auto"`` is fp16 on a GPU. On a CPU it is fp32, but for the L series, which takes seconds a stack, bf16 where the
    CPU multiplies in it and the manifest says that it changes at most one class in two hundred.
    """
    if precision == "auto":
        if device.type == "cuda":
            return "fp16"
        harmless = bundle.bf16 is not None and bundle.bf16.flipped <= MOST_FLIPPED
        shape = find_shape(bundle.architecture)
        pays = shape is not None and shape.large and torch.cpu._is_avx512_bf16_supported()
        return "bf16" if harmless and pays else "fp32"
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
